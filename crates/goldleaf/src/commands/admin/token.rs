//! `goldleaf admin token`: who may use a server.

use clap::Subcommand;
use goldleaf_api::Role;
use goldleaf_api::v1::{CreateToken, ListTokens, Nothing, RevokeToken, TokenNamed, TokenWanted};

use super::{call, done};
use crate::cli::App;
use crate::failure::Failure;
use crate::output::{Table, printable, when};

/// Tokens: who may use the server, and as what
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token for somebody, who logs in with it
    Create {
        /// Whose it is, or what for
        name: String,
        /// As what: viewer, helpdesk, image-author, approver, security-officer, administrator
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// For how many days it is good; 90 where nothing is said
        #[arg(long)]
        days: Option<u32>,
    },
    /// List the tokens
    List,
    /// Make a token good for nothing
    Revoke {
        /// Its id
        token: String,
    },
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub fn run(app: &App, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create { name, role, days } => {
            let wanted = TokenWanted { name: name.clone(), role: *role, days: *days };
            let token = call::<CreateToken>(app, &wanted)?;
            app.answer(&token, || {
                let until = when(token.expires_at);
                format!("good until {until}, and told only now:\n{}", token.token)
            })
        }
        Command::List => {
            let tokens = call::<ListTokens>(app, &Nothing {})?;
            app.answer(&tokens.tokens, || {
                let mut table =
                    Table::new(["ID", "NAME", "ROLE", "UNTIL"], "there are no tokens\n");
                for token in &tokens.tokens {
                    let (role, until) = (token.role.as_str().into(), when(token.expires_at));
                    table.row([token.id.clone(), printable(&token.name), role, until]);
                }
                table.render()
            })
        }
        Command::Revoke { token } => {
            let named = TokenNamed { token: token.clone() };
            done::<RevokeToken>(app, &named, format!("{token} is good for nothing now"))
        }
    }
}
