//! What a verifier is made of on this side: its kind, and the folder of its files.

use sinternal_proto::{GuardFamily, ModelManifest, VerifierSpec};
use std::path::{Path, PathBuf};

/// A verifier to be loaded, and where its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierSource {
    pub(super) spec: VerifierSpec,
    /// Of the files; a remote judge has none.
    pub(super) dir: PathBuf,
}

impl VerifierSource {
    /// A checkpoint of the policy's own kind, which critiques and judges.
    #[must_use]
    pub fn own(manifest: ModelManifest, dir: &Path) -> Self {
        Self { spec: VerifierSpec::Own(manifest), dir: dir.into() }
    }

    /// A guard model.
    #[must_use]
    pub fn guard(
        manifest: ModelManifest,
        dir: &Path,
        family: GuardFamily,
        controversial_is_safe: bool,
    ) -> Self {
        Self { spec: VerifierSpec::Guard { manifest, family, controversial_is_safe }, dir: dir.into() }
    }

    /// A remote judge by its name in the reward service's configuration.
    #[must_use]
    pub fn judge(name: &str) -> Self {
        Self { spec: VerifierSpec::Judge(name.into()), dir: PathBuf::new() }
    }
}
