"""The jinja2 templates of the HTML and LaTeX reports. Every value is escaped unless it is `Markup`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


def render_html(template: str, **values: Any) -> str:
    """The HTML template with values; text is escaped for HTML."""
    return _environment(autoescape=True).get_template(template).render(**values)


def render_latex(template: str, escape: Callable[[str], str], **values: Any) -> str:
    """The LaTeX template with values; text is escaped by `escape`. Delimiters: `<% %>`, `<< >>`, `<# #>`."""
    return (
        _environment(
            block_start_string="<%",
            block_end_string="%>",
            variable_start_string="<<",
            variable_end_string=">>",
            comment_start_string="<#",
            comment_end_string="#>",
            finalize=_finalizer(escape),
        )
        .get_template(template)
        .render(**values)
    )


@cache
def _finalizer(escape: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: value if isinstance(value, Markup) else escape(str(value))


@cache
def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("harness.reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
