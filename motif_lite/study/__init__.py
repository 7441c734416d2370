"""Studies: variants times seeds in one command, compared fairly.

`file` reads the TOML, `plan` says which runs follow, `runs` performs them in the order of `schedule`, `finished` says
what each has left, `tuning` picks values, `results` gathers all of it, `table` and `plot` show it, `report` writes the
files, and `live` shows the progress.
"""
