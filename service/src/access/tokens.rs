//! Whose token it is.

use super::{Refusal, Role, Secret};
use serde::{Deserialize, Serialize};
use sinternal_proto::Sha256;
use std::time::SystemTime;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What a server knows of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// For people: whose it is.
    pub name: String,
    /// What it is good for.
    pub roles: Vec<Role>,
    /// Its hash.
    pub sha256: Sha256,
    /// When it ceases to be good, such as `Sun, 06 Nov 2033 08:49:37 GMT`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "http_date")]
    pub expires: Option<SystemTime>,
}

/// The entry of a token.
///
/// The comparison takes the same time whatever the hashes have in common, and looks at all entries: how long it takes
/// says nothing about any of them.
///
/// # Errors
/// No entry has its hash; it has expired.
pub fn authenticate<'a>(
    entries: &'a [TokenEntry],
    secret: &Secret,
    now: SystemTime,
) -> Result<&'a TokenEntry, Refusal> {
    let hash = secret.hash();
    let mut found = u64::MAX;
    for (i, entry) in (0u64..).zip(entries) {
        let same: Choice = entry.sha256.0.as_bytes().ct_eq(hash.0.as_bytes());
        found.conditional_assign(&i, same);
    }
    let entry = usize::try_from(found).ok().and_then(|i| entries.get(i)).ok_or(Refusal::Unknown)?;
    match entry.expires.filter(|expires| *expires <= now) {
        Some(expired) => {
            let expired = httpdate::fmt_http_date(expired);
            Err(Refusal::Expired { name: entry.name.clone(), expired })
        }
        None => Ok(entry),
    }
}

mod http_date {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::SystemTime;

    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&httpdate::fmt_http_date(*time)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        let text = String::deserialize(from)?;
        let form = "a time such as `Sun, 06 Nov 2033 08:49:37 GMT`";
        let parsed = httpdate::parse_http_date(&text);
        parsed.map(Some).map_err(|_| D::Error::custom(format!("`{text}` is not {form}")))
    }
}
