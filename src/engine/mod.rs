//! Running a command: context, session, command table, effects, errors.
