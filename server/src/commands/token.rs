//! `trem token`: who may ask the daemon. It works on the state file: whoever can read that may make tokens.

use crate::cli::{CreateToken, ListTokens, RevokeToken, Token};
use crate::commands::serve::open;
use crate::exit::{Exit, Failure};
use crate::layout::{Table, width};
use crate::output;
use crate::store::StoreError;

/// Makes, lists and revokes tokens.
pub fn token(command: Token) -> Result<Exit, Failure> {
    match command {
        Token::Create(args) => create(&args),
        Token::Ls(args) => list(&args),
        Token::Revoke(args) => revoke(&args),
    }
}

/// Prints the token alone, for scripts; nothing can print it again.
fn create(args: &CreateToken) -> Result<Exit, Failure> {
    let name = args.name.clone().unwrap_or_else(|| args.role.word().to_owned());
    let token = open(&args.state)?.create_token(&name, args.role).map_err(failed)?;
    output::say(token);
    Ok(Exit::Done)
}

fn list(args: &ListTokens) -> Result<Exit, Failure> {
    let tokens = open(&args.state)?.tokens().map_err(failed)?;
    if args.json {
        output::json(&serde_json::json!({ "tokens": tokens }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "name", "role", "created", "revoked"], width());
    for token in tokens {
        let revoked = token.revoked_at.unwrap_or_default();
        table.row([token.id.to_string(), token.name, token.role.word().to_owned(), token.created_at, revoked]);
    }
    output::say(table);
    Ok(Exit::Done)
}

fn revoke(args: &RevokeToken) -> Result<Exit, Failure> {
    if open(&args.state)?.revoke_token(args.id).map_err(failed)? {
        output::say(format_args!("token {} is revoked", args.id));
        return Ok(Exit::Done);
    }
    Err(Failure::Usage(format!("no token in use has number {}: `trem token ls` lists them", args.id)))
}

fn failed(error: StoreError) -> Failure {
    Failure::System(error.to_string())
}
