//! What targets of every kind have in common: what they say of tables, and how what they remember is written down.

pub(crate) mod findings;
pub(crate) mod part;
pub(crate) mod stored;
