//! Conditions on the columns of a row that mean the same everywhere: what a source may leave out of a load by itself.

/// A condition on the columns of a row, with the three-valued logic of SQL. Rows for which it is not true are of no
/// interest; some for which it is true may be neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of these.
    All(Vec<Self>),
    /// Any of these.
    Any(Vec<Self>),
    /// The column stands so to the value.
    Compare {
        /// The index of the column in its table.
        column: usize,
        /// How.
        by: Comparison,
        /// The value as text: whole numbers and decimals in digits, `true` and `false`, dates and times as ISO 8601 has
        /// them, text and UUIDs as they are.
        value: String,
    },
    /// The column has one of the values, which are as in [`Condition::Compare`].
    OneOf {
        /// The index of the column in its table.
        column: usize,
        /// The values.
        values: Vec<String>,
    },
    /// The column has a value, or has none.
    Null {
        /// The index of the column in its table.
        column: usize,
        /// It has none.
        is: bool,
    },
}

/// How a value stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the same.
    Equal,
    /// It is not.
    NotEqual,
    /// It comes before.
    Less,
    /// It does not come after.
    LessOrEqual,
    /// It comes after.
    Greater,
    /// It does not come before.
    GreaterOrEqual,
}

impl Comparison {
    /// The same with both sides exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }
}
