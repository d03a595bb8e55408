//! What a token's owner is to a service.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A role. A token may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May call everything.
    Admin,
    /// Submits and steers jobs.
    Submit,
    /// Looks at jobs.
    Read,
    /// Is a rollout worker.
    Worker,
    /// Is the trainer, which calls the reward service.
    Trainer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Submit, Self::Read, Self::Worker, Self::Trainer];

    /// As files and commands write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Worker => "worker",
            Self::Trainer => "trainer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no role; the roles are {}", listed(&Self::ALL, "and")))
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn listed(roles: &[Role], last: &str) -> String {
    match roles {
        [] => "no role".into(),
        [one] => one.to_string(),
        [most @ .., end] => {
            let most: Vec<_> = most.iter().map(|role| role.as_str()).collect();
            format!("{} {last} {end}", most.join(", "))
        }
    }
}
