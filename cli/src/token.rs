//! `sinternal token …`: the tokens of a trainer or reward service. A token is shown once, to whoever makes it.

use crate::jobs::print;
use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use sinternal_service::access::{Role, Secret, TokenEntry, add_token, read_tokens, revoke_token};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, print it, and add its hash to the file of tokens. It cannot be shown again
    New(NewArgs),
    /// List names, roles and expiry
    List(ListArgs),
    /// Remove a token by its name; running services refuse it within seconds
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct TokensFile {
    /// The file of tokens (`auth.tokens` of the services)
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
}

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Whose it is; refusals and logs name it
    #[arg(long)]
    name: String,
    /// admin, submit, read, worker or trainer; several with commas
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', required = true)]
    roles: Vec<Role>,
    /// Days until it expires; without them it is good until it is revoked
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    #[command(flatten)]
    file: TokensFile,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    file: TokensFile,
    /// Machine output on stdout: one token a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    file: TokensFile,
}

pub(crate) fn run(command: &TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::New(args) => new(args),
        TokenCommand::List(args) => list(args),
        TokenCommand::Revoke(args) => Ok(revoke_token(&args.file.tokens, &args.name)?),
    }
}

fn new(args: &NewArgs) -> anyhow::Result<()> {
    let mut roles = args.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    let lasts = |days: u32| Duration::from_secs(86_400 * u64::from(days));
    let now = SystemTime::now();
    let expires =
        args.days.map(|days| now.checked_add(lasts(days)).context("--days: too many")).transpose()?;
    let secret = Secret::random();
    add_token(
        &args.file.tokens,
        TokenEntry { name: args.name.clone(), roles, sha256: secret.hash(), expires },
    )?;
    print(secret.expose());
    Ok(())
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let (tokens, now) = (read_tokens(&args.file.tokens)?, SystemTime::now());
    ensure!(!tokens.is_empty(), "{}: holds no token", args.file.tokens.display());
    for token in tokens {
        let days =
            token.expires.map(|at| at.duration_since(now).map_or(0, |left| left.as_secs().div_ceil(86_400)));
        if args.json {
            print(&json!({"name": token.name, "roles": token.roles, "days_left": days}).to_string());
            continue;
        }
        let roles: Vec<_> = token.roles.iter().map(|role| role.as_str()).collect();
        let expiry = match days {
            None => "does not expire".to_owned(),
            Some(0) => "expired".to_owned(),
            Some(days) => format!("expires within {days} days"),
        };
        print(&format!("{}  {}  {expiry}", token.name, roles.join(",")));
    }
    Ok(())
}
