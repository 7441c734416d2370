"""Problems: data sets, files, generated tasks, and the tiny model that goes with one."""
