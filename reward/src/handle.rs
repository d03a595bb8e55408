//! A verifier of any kind, as those who ask see it.

use crate::RewardError;
use crate::guard::Guard;
use crate::remote::RemoteJudge;
use crate::template::{Question, Template};
use crate::thread::{Unanswered, VerifierHandle};
use crate::verifier::{SelfVerifier, Verification, VerifierOptions};
use sinternal_proto::VerifierSpec;
use std::path::PathBuf;

/// Asks a verifier; a cheap clone.
#[derive(Debug, Clone)]
pub(crate) enum Handle {
    /// A checkpoint of the policy's own kind.
    Own(VerifierHandle),
    /// A guard model.
    Guard(VerifierHandle),
    /// A judge behind an endpoint.
    Remote(RemoteJudge),
}

impl Handle {
    /// Loads the model in `folder`, on a thread of its own. A remote judge has none.
    pub(crate) async fn load(
        verifier: &VerifierSpec,
        folder: PathBuf,
        options: VerifierOptions,
    ) -> Result<Self, RewardError> {
        let most = options.max_sequences;
        match *verifier {
            VerifierSpec::Guard { family, controversial_is_safe: safe, .. } => {
                let load = move || Guard::load(&folder, family, safe, options);
                Ok(Self::Guard(VerifierHandle::spawn(most, load).await?))
            }
            VerifierSpec::Own(_) | VerifierSpec::Judge(_) => {
                let load = move || SelfVerifier::load(&folder, options);
                Ok(Self::Own(VerifierHandle::spawn(most, load).await?))
            }
        }
    }

    /// Answers one question. A dropped future withdraws it.
    pub(crate) async fn verify(&self, question: Question) -> Result<Verification, Unanswered> {
        match self {
            Self::Own(thread) | Self::Guard(thread) => thread.verify(question).await,
            Self::Remote(judge) => judge.verify(question).await,
        }
    }

    /// Which forms of answer it knows.
    pub(crate) fn template(&self) -> Template {
        match self {
            Self::Own(thread) | Self::Guard(thread) => thread.template(),
            Self::Remote(_) => Template::General,
        }
    }

    /// What metrics call its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Own(_) => "self",
            Self::Guard(_) => "guard",
            Self::Remote(_) => "remote",
        }
    }
}
