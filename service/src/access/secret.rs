//! A token's text, which is shown once and kept by its owner alone.

use rand::RngCore;
use rand::rngs::OsRng;
use sinternal_proto::Sha256;
use std::fmt;

/// What tokens of this project begin with, so that tools that look for leaked secrets know them.
const PREFIX: &str = "sinternal_";
/// 256 bits: nobody finds one by trying, with or without its hash.
const BYTES: usize = 32;
/// A header that is longer holds no token.
const LONGEST: usize = 128;

/// A token. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one, from the system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; BYTES];
        OsRng.fill_bytes(&mut bytes);
        Self(format!("{PREFIX}{}", hex::encode(bytes)))
    }

    /// Takes a token as it stands in a file or a header; space around it is dropped.
    ///
    /// # Errors
    /// What is wrong with its form, without the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("is not one token as `sinternal token new` prints it");
        }
        Ok(Self(text.into()))
    }

    /// What a server keeps of it.
    ///
    /// A plain hash is enough. Salts and slow hashes protect what people choose, which can be guessed; of 2^256 random
    /// texts none can, and no table of them can be made. Equal tokens do not occur, so equal hashes give nothing away.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        Sha256::of(self.0.as_bytes())
    }

    /// The text itself: for the one who is given it, and for the header of a call.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}
