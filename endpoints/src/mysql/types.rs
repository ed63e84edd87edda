//! Types of columns: what the catalogue says of one, and what its values mean.

use trem_engine::schema::{Length, Native, Type};
use trem_engine::types::Dialect;

/// The dialect of both servers: a table of one can be made on the other, types that only one has excepted.
pub(super) const DIALECT: Dialect = Dialect::new("mysql");

/// A column as `information_schema.columns` has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    /// `DATA_TYPE`: the bare word.
    pub(super) word: String,
    /// `COLUMN_TYPE`: with everything that belongs to it.
    pub(super) whole: String,
    /// `CHARACTER_SET_NAME`, of text.
    pub(super) charset: Option<String>,
    /// `COLLATION_NAME`, of text.
    pub(super) collation: Option<String>,
    /// MariaDB has no type for JSON, but a check constraint.
    pub(super) checked_as_json: bool,
}

impl Described {
    /// The type as it stands in DDL; its detail is the character set.
    pub(super) fn native(&self) -> Native {
        let mut name = self.whole.clone();
        if let (Some(charset), Some(collation)) = (&self.charset, &self.collation)
            && self.word != "json"
        {
            name.push_str(&format!(" CHARACTER SET {charset} COLLATE {collation}"));
        }
        Native { dialect: DIALECT, name, detail: self.charset.clone().unwrap_or_default() }
    }

    /// What the values mean.
    pub(super) fn meaning(&self) -> Type {
        let unsigned = self.whole.contains(" unsigned") || self.whole.contains(" zerofill");
        let signed = |signed, without| if unsigned { without } else { signed };
        let (first, second) = self.numbers();
        let length = first.unwrap_or(0);
        // Fractions of seconds.
        let digits = u8::try_from(length).unwrap_or(6).min(6);
        match self.word.as_str() {
            "tinyint" => signed(Type::Int8, Type::UInt8),
            "smallint" => signed(Type::Int16, Type::UInt16),
            // There is no type of 24 bits; both kinds fit.
            "mediumint" => Type::Int32,
            "int" => signed(Type::Int32, Type::UInt32),
            "bigint" => signed(Type::Int64, Type::UInt64),
            "decimal" => Type::Decimal(Some((
                u16::try_from(first.unwrap_or(10)).unwrap_or(65),
                i16::try_from(second.unwrap_or(0)).unwrap_or(30),
            ))),
            "float" => Type::Float32,
            "double" => Type::Float64,
            "bit" => Type::Bit(Length::Exactly(first.unwrap_or(1))),
            "longtext" if self.checked_as_json => Type::Json,
            // Trailing blanks are none of its value: it is never filled up.
            "char" | "varchar" => Type::Text(Length::AtMost(length)),
            "tinytext" | "text" | "mediumtext" | "longtext" => Type::Text(Length::Unlimited),
            "binary" => Type::Binary(Length::Exactly(first.unwrap_or(1))),
            "varbinary" => Type::Binary(Length::AtMost(length)),
            "tinyblob" | "blob" | "mediumblob" | "longblob" => Type::Binary(Length::Unlimited),
            "date" => Type::Date,
            "time" => Type::Duration(digits),
            "datetime" => Type::Timestamp(digits),
            "timestamp" => Type::TimestampTz(digits),
            "year" => Type::Year,
            "enum" => Type::Enum(labels(&self.whole)),
            "set" => Type::Set(labels(&self.whole)),
            "json" => Type::Json,
            "uuid" => Type::Uuid,
            _ => Type::Named(self.whole.clone()),
        }
    }

    /// That of a type as [`Described::native`] writes it.
    pub(super) fn of_ddl(name: &str) -> Self {
        let (whole, rest) = name.split_once(" CHARACTER SET ").unwrap_or((name, ""));
        let (charset, collation) = rest.split_once(" COLLATE ").unwrap_or((rest, ""));
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            word: whole.split(['(', ' ']).next().unwrap_or_default().to_owned(),
            whole: whole.to_owned(),
            charset: some(charset),
            collation: some(collation),
            checked_as_json: false,
        }
    }

    /// The first number in parentheses.
    pub(super) fn first(&self) -> Option<u32> {
        self.numbers().0
    }

    /// What stands in parentheses, as far as they are numbers.
    pub(super) fn numbers(&self) -> (Option<u32>, Option<u32>) {
        let inside =
            self.whole.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inside, _)| inside);
        let mut numbers = inside.split(',').map(|number| number.trim().parse().ok());
        (numbers.next().flatten(), numbers.next().flatten())
    }
}

/// The labels of an ENUM or a SET, as `COLUMN_TYPE` has them: quotes are doubled in it.
pub(super) fn labels(whole: &str) -> Vec<String> {
    let inside = whole.split_once('(').map_or("", |(_, rest)| rest);
    let (mut labels, mut label, mut open) = (Vec::new(), String::new(), false);
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, open) {
            ('\'', true) if chars.peek() == Some(&'\'') => {
                chars.next();
                label.push('\'');
            }
            ('\'', true) => {
                labels.push(std::mem::take(&mut label));
                open = false;
            }
            ('\'', false) => open = true,
            (c, true) => label.push(c),
            (')', false) => break,
            (_, false) => {}
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(whole: &str) -> Type {
        let word = whole.split(['(', ' ']).next().unwrap_or_default().to_owned();
        Described { word, whole: whole.to_owned(), ..Described::default() }.meaning()
    }

    #[test]
    fn each_type_has_its_meaning() {
        for (whole, ty) in [
            ("tinyint(1)", Type::Int8),
            ("tinyint(3) unsigned", Type::UInt8),
            ("mediumint(8) unsigned", Type::Int32),
            ("int(10) unsigned zerofill", Type::UInt32),
            ("bigint(20) unsigned", Type::UInt64),
            ("decimal(65,30)", Type::Decimal(Some((65, 30)))),
            ("float(10,3)", Type::Float32),
            ("bit(64)", Type::Bit(Length::Exactly(64))),
            ("char(5)", Type::Text(Length::AtMost(5))),
            ("binary(4)", Type::Binary(Length::Exactly(4))),
            ("datetime", Type::Timestamp(0)),
            ("timestamp(6)", Type::TimestampTz(6)),
            ("time(2)", Type::Duration(2)),
            ("year(4)", Type::Year),
        ] {
            assert_eq!(meaning(whole), ty, "{whole}");
        }
        let owned = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        assert_eq!(meaning("enum('a','it''s',')',',','')"), Type::Enum(owned(&["a", "it's", ")", ",", ""])));
        assert_eq!(meaning("set('x')"), Type::Set(owned(&["x"])));
        assert_eq!(meaning("inet6"), Type::Named("inet6".to_owned()));
    }

    #[test]
    fn text_has_its_character_set() {
        let described = Described {
            word: "varchar".to_owned(),
            whole: "varchar(20)".to_owned(),
            charset: Some("latin1".to_owned()),
            collation: Some("latin1_swedish_ci".to_owned()),
            checked_as_json: false,
        };
        let native = described.native();
        assert_eq!(native.name, "varchar(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci");
        assert_eq!(native.detail, "latin1");
    }
}
