//! What an expression may read.

use trem_engine::schema::Type;

/// A column that an expression may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) name: &'a str,
    pub(crate) ty: &'a Type,
    /// It is no column: an expression calls a function of this name for it.
    pub(crate) called: bool,
}

impl Input<'_> {
    /// As the planner knows it. Nobody writes such a name as that of what is called.
    pub(super) fn field(&self) -> String {
        if self.called { format!("\u{1}{}()", self.name) } else { self.name.to_owned() }
    }
}
