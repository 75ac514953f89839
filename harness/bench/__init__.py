"""The engine against the usual way: paired measurements that assert, in the same run, that both give one result."""
