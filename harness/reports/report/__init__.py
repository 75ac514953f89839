"""`harness report`: one page of everything that is stored of a data set, to look at from disk and to print from.

`build` is the way in: it gathers what the store and the data say, board by board; each other module makes one part of
the page (a figure with its numbers as tables, or a table); `document` puts them into HTML, with the files beside it.
"""
