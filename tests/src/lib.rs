//! Tries the other rooms.
