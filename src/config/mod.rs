//! The one table of parameters: flag, configuration file, CONFIG GET and SET, and --help.
