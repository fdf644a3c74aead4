//! One file a family: its table rows next to its handlers.
