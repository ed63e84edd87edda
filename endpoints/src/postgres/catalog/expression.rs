//! Which words of an expression, an index or a constraint are columns of its table.
//!
//! The server prints what it has understood, not what was written: columns of the one table are not qualified, every
//! function is followed by its parenthesis, every other qualified name has its schema, and keywords are in capitals.

use std::collections::HashSet;

use trem_engine::schema::TableId;
use trem_engine::template::{Piece, Template};

use super::lex::{Kind, Token, closing, tokens};
use crate::postgres::types::DIALECT;

/// Words after which a name of something else follows: a type, a collation, a label.
const INTRODUCING: [&str; 5] = ["::", "COLLATE", "RETURNING", "AS", "NAME"];

/// A table whose columns an expression may name.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) table: &'a TableId,
    pub(super) columns: &'a HashSet<String>,
}

impl Scope<'_> {
    /// An expression as a template.
    pub(super) fn expression(&self, text: &str) -> Template {
        let mut pieces = Pieces::default();
        self.columns_of(text, &mut pieces);
        pieces.template()
    }

    /// An index behind the name of its table, or an exclusion constraint: `elements` are its columns and expressions,
    /// `predicate` what follows WHERE. What stands between them are names of other things. `None` if they are not
    /// found.
    pub(super) fn index(
        &self,
        text: &str,
        elements: &[String],
        predicate: Option<&str>,
        out: &mut Pieces,
    ) -> Option<()> {
        let (before, mut rest) = after_gap(text, |tokens, _| tokens.last().is_some_and(|t| t.is("(")))?;
        out.text(before);
        for (n, element) in elements.iter().enumerate() {
            rest = rest.strip_prefix(element.as_str())?;
            self.columns_of(element, out);
            if n + 1 < elements.len() {
                let (gap, next) = after_gap(rest, between_elements)?;
                out.text(gap);
                rest = next;
            }
        }
        let Some(predicate) = predicate else {
            out.text(rest);
            return Some(());
        };
        let (before, predicate, after) = match rest.strip_suffix(predicate) {
            Some(before) => (before, predicate, ""),
            None => {
                let within = format!("WHERE ({predicate})");
                let at = rest.rfind(&within)? + "WHERE (".len();
                (&rest[..at], predicate, &rest[at + predicate.len()..])
            }
        };
        out.text(before);
        self.columns_of(predicate, out);
        out.text(after);
        Some(())
    }

    /// A foreign key: its own columns, the table it refers to, that table's columns, and what is to be done. `None` if
    /// the text has another form.
    pub(super) fn foreign_key(&self, text: &str, referenced: &TableId, out: &mut Pieces) -> Option<()> {
        let tokens = tokens(text);
        let joined = |tokens: &[Token<'_>]| tokens.iter().map(|t| t.text).collect::<String>();
        let open = |from: usize| tokens.iter().skip(from).position(|t| t.is("(")).map(|at| from + at);
        let own_end = closing(&tokens, open(0)?)?;
        let other = open(own_end)?;
        let other_end = closing(&tokens, other)?;
        self.columns_of(&joined(&tokens[..own_end]), out);
        out.text(" REFERENCES ");
        out.push(Piece::Table(referenced.clone()));
        for token in &tokens[other..other_end] {
            match token.name() {
                Some(column) => out.push(Piece::ColumnOf(referenced.clone(), column)),
                None => out.text(token.text),
            }
        }
        self.columns_of(&joined(&tokens[other_end..]), out);
        Some(())
    }

    /// Appends an expression.
    pub(super) fn columns_of(&self, text: &str, out: &mut Pieces) {
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            let token = &tokens[at];
            let field = token.is("(") && at > 0 && tokens[at - 1].is("EXTRACT");
            if field || (token.kind != Kind::Quoted && INTRODUCING.contains(&token.text)) {
                let end = after_name(&tokens, at + 1);
                tokens[at..end].iter().for_each(|t| out.text(t.text));
                at = end;
                continue;
            }
            match self.piece(&tokens, at) {
                Some(piece) => out.push(piece),
                None => out.text(token.text),
            }
            at += 1;
        }
    }

    fn piece(&self, tokens: &[Token<'_>], at: usize) -> Option<Piece> {
        let name = tokens[at].name()?;
        let next = |n: usize| tokens.get(at + n).map_or("", |t| t.text);
        if next(1) == "." {
            // All columns as one value; everything else that is qualified is no column.
            return (next(2) == "*" && name == self.table.table).then(|| Piece::Table(self.table.clone()));
        }
        let before = tokens[..at].iter().rev().find(|t| t.kind != Kind::Space);
        let after = tokens[at + 1..].iter().find(|t| t.kind != Kind::Space);
        let other = next(1) == "(" || before.is_some_and(|t| t.is(".")) || after.is_some_and(|t| t.is("=>"));
        (!other && self.columns.contains(&name)).then_some(Piece::Column(name))
    }
}

/// The place behind a name that may have a schema, several words and a length: `time(3) without time zone`.
fn after_name(tokens: &[Token<'_>], from: usize) -> usize {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|t| t.is(text));
    let small = |at: usize| tokens.get(at).is_some_and(Token::small);
    let mut at = from;
    while tokens.get(at).is_some_and(|t| t.kind == Kind::Space) {
        at += 1;
    }
    if !tokens.get(at).is_some_and(|t| t.small() || t.kind == Kind::Quoted) {
        return from;
    }
    at += 1;
    loop {
        at = match () {
            () if is(at, ".") => at + 2,
            () if is(at, "(") => closing(tokens, at).unwrap_or(tokens.len()),
            () if is(at, " ") && small(at + 1) => at + 2,
            () => return at.min(tokens.len()),
        };
    }
}

/// Splits behind the first token at which `ends`: of the tokens, the place of the last one, and its depth in brackets.
fn after_gap(text: &str, ends: impl Fn(&[Token<'_>], usize) -> bool) -> Option<(&str, &str)> {
    let tokens = tokens(text);
    let (mut length, mut depth) = (0, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        length += token.text.len();
        if ends(&tokens[..=at], depth) {
            return Some(text.split_at(length));
        }
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Where the next element of an index begins: behind a comma, or in the list of columns that are only stored.
fn between_elements(tokens: &[Token<'_>], depth: usize) -> bool {
    let comma = depth == 0 && matches!(tokens, [.., comma, space] if comma.is(",") && space.is(" "));
    comma || matches!(tokens, [.., include, _, open] if include.is("INCLUDE") && open.is("("))
}

/// A template in the making.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    pub(super) fn push(&mut self, piece: Piece) {
        self.0.push(piece);
    }

    pub(super) fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(before)) => before.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    pub(super) fn template(self) -> Template {
        Template { dialect: DIALECT, pieces: self.0 }
    }
}

#[cfg(test)]
#[path = "expression/tests.rs"]
mod tests;
