//! Ranges of chunks of the memory source.

use super::model::{Row, Value};

/// A chunk of all rows. One of a range of keys is `column:lower..upper`, without a bound where there is none.
pub(super) const ALL: &str = "all";

/// Whether a row is in a range.
pub(super) fn holds(range: &str, row: &Row) -> bool {
    let Some((column, (lower, upper))) = range.split_once(':').and_then(|(c, r)| Some((c, r.split_once("..")?))) else {
        return true;
    };
    let Some(Value::Int(v)) = row[column.parse::<usize>().unwrap()] else { panic!("an integer key") };
    let bound = |text: &str| text.parse::<i64>().ok();
    bound(lower).is_none_or(|l| l <= v) && bound(upper).is_none_or(|u| v < u)
}
