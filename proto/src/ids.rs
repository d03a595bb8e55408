//! Identifiers and versions that must not be mixed up.

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A published policy; grows by one with every update of the weights.
    PolicyVersion(u64)
);
number!(
    /// One prompt's group of samples within a job.
    TaskId(u64)
);
number!(
    /// Index of a sample in its group.
    SampleIndex(u32)
);
text!(
    /// A job, unique on its trainer.
    JobId
);
text!(
    /// A worker's registration.
    WorkerId
);
text!(
    /// SHA-256 as 64 lower-case hexadecimal digits.
    Sha256
);

impl PolicyVersion {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Sha256 {
    /// The hash of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(hex::encode(sha2::Sha256::digest(bytes)))
    }

    /// Takes 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str, field: &'static str) -> Result<Self, crate::Invalid> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let fine = text.len() == 64 && text.bytes().all(digit);
        crate::check::require(fine, field, "is not a SHA-256 in 64 lower-case hexadecimal digits")?;
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_checked() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-4's example
        assert_eq!(Sha256::of(b"abc"), Sha256(abc.into()));
        assert_eq!(Sha256::parse(abc, "f"), Ok(Sha256(abc.into())));
        for wrong in ["", &abc[1..], &abc.to_uppercase(), &abc.replace('b', "g")] {
            assert_eq!(Sha256::parse(wrong, "f").unwrap_err().field, "f", "{wrong}");
        }
    }
}
