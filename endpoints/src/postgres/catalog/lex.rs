//! Tokens of the SQL that a server prints for its own expressions.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unquoted word. The server prints keywords in capitals and quotes every name that has one.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string literal.
    Literal,
    /// A number.
    Number,
    /// White space.
    Space,
    /// `::` and `=>`, and every other character by itself.
    Symbol,
}

/// One token. The texts of all tokens make the whole text again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

impl Token<'_> {
    /// Whether it is this symbol or word.
    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// The name it spells, if it may be one. `true` and `false` are the only keywords printed in small letters.
    pub(super) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Word if self.small() && !self.is("true") && !self.is("false") => Some(self.text.to_owned()),
            Kind::Quoted => Some(self.text.strip_prefix('"')?.strip_suffix('"')?.replace("\"\"", "\"")),
            _ => None,
        }
    }

    /// Whether it is a word in small letters: a name or a part of one.
    pub(super) fn small(&self) -> bool {
        self.kind == Kind::Word && !self.text.contains(|c: char| c.is_ascii_uppercase())
    }
}

/// Cuts a text into tokens.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kind, end) = match first {
            '\'' => (Kind::Literal, quoted(rest, '\'', false)),
            'E' if rest[1..].starts_with('\'') => (Kind::Literal, 1 + quoted(&rest[1..], '\'', true)),
            '"' => (Kind::Quoted, quoted(rest, '"', false)),
            c if c.is_whitespace() => (Kind::Space, run(rest, char::is_whitespace)),
            c if c.is_ascii_digit() => (Kind::Number, run(rest, |c| c.is_ascii_alphanumeric() || c == '.')),
            c if in_word(c) => (Kind::Word, run(rest, in_word)),
            _ if rest.starts_with("::") || rest.starts_with("=>") => (Kind::Symbol, 2),
            c => (Kind::Symbol, c.len_utf8()),
        };
        let (text, after) = rest.split_at(end);
        out.push(Token { kind, text });
        rest = after;
    }
    out
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Where a quoted text ends, which `text` begins with. A quote inside is doubled.
fn quoted(text: &str, quote: char, backslashes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && backslashes {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// The place behind the bracket that closes the one at `open`.
pub(super) fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.checked_sub(1)?,
            _ => continue,
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        let tokens = tokens(text);
        assert_eq!(tokens.iter().map(|t| t.text).collect::<String>(), text);
        tokens.iter().filter(|t| t.kind != Kind::Space).map(|t| t.text).collect()
    }

    #[test]
    fn texts_are_cut_where_the_server_cuts_them() {
        assert_eq!(cut("(a)::text = 'it''s a'::text"), ["(", "a", ")", "::", "text", "=", "'it''s a'", "::", "text"]);
        assert_eq!(cut("\"a\"\"b\".\"c\""), ["\"a\"\"b\"", ".", "\"c\""]);
        assert_eq!(cut("E'a\\'b' || 'c\\'"), ["E'a\\'b'", "|", "|", "'c\\'"]);
        assert_eq!(cut("f(x => 1.5e3, y)"), ["f", "(", "x", "=>", "1.5e3", ",", "y", ")"]);
        assert_eq!(cut("'open"), ["'open"]);
    }

    #[test]
    fn names_are_told_from_keywords() {
        let name = |text| tokens(text)[0].name();
        assert_eq!(name("zone"), Some("zone".to_owned()));
        assert_eq!(name("\"A\"\"b\""), Some("A\"b".to_owned()));
        assert_eq!(name("\"true\""), Some("true".to_owned()));
        assert_eq!(["true", "AND", "'a'", "1", "("].map(name), [const { None }; 5]);
    }
}
