"""Studies: variants times seeds in one command, compared fairly.

`file` reads the TOML, `plan` says which runs follow, `runs` performs them, `results` reads what they left, `table` and
`plot` show it, `report` writes the files, and `live` shows the progress.
"""
