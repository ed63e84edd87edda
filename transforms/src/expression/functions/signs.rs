//! Signs of numbers that stand right behind an operator: `data->-1`, `id>-1`.

use datafusion_sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// An operator that has one of these may end in a sign: PostgreSQL has the same rule.
const MAY_END_IN_SIGNS: &[char] = &['~', '!', '@', '#', '%', '^', '&', '|', '`', '?'];

/// Takes signs away from operators that cannot end in them.
pub(crate) fn apart(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut all = Vec::with_capacity(tokens.len());
    for token in tokens {
        match &token.token {
            Token::CustomBinaryOperator(operator) if let Some(parts) = parts(operator) => {
                all.extend(parts.into_iter().map(|part| TokenWithSpan::new(part, token.span)));
            }
            _ => all.push(token),
        }
    }
    all
}

fn parts(operator: &str) -> Option<Vec<Token>> {
    let signs = ['+', '-'];
    if operator.contains(MAY_END_IN_SIGNS) || !operator.ends_with(signs) {
        return None;
    }
    // An operator is left, if it is one of signs alone.
    let end = operator.trim_end_matches(signs).len().max(1);
    let (operator, rest) = operator.split_at_checked(end)?;
    let mut parts = Tokenizer::new(&PostgreSqlDialect {}, operator).tokenize().ok()?;
    parts.extend(rest.chars().map(|sign| if sign == '-' { Token::Minus } else { Token::Plus }));
    Some(parts)
}
