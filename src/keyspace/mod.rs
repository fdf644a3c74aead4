//! The databases: key table, expiry, watched keys.
