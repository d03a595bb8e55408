//! The API key: read from its file or variable, sent, and never shown.

use super::{ChatSettings, ChatSetupError};
use reqwest::header::HeaderValue;
use std::fmt;
use std::sync::Arc;

/// A secret and where it came from; `Debug` shows only the latter.
#[derive(Clone)]
pub(super) struct ApiKey {
    secret: Arc<str>,
    origin: Arc<str>,
}

impl ApiKey {
    /// The key that the settings point at; `None` where they point at none. `environment` looks up a variable.
    pub(super) fn read(
        settings: &ChatSettings,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ChatSetupError> {
        if let Some(path) = &settings.api_key_file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ChatSetupError::KeyFile { path: path.clone(), source })?;
            return Self::new(&text, path.display().to_string()).map(Some);
        }
        let Some(name) = &settings.api_key_env else { return Ok(None) };
        let text = environment(name).ok_or_else(|| ChatSetupError::KeyVariable { name: name.clone() })?;
        Self::new(&text, format!("environment variable `{name}`")).map(Some)
    }

    fn new(text: &str, origin: String) -> Result<Self, ChatSetupError> {
        let secret = text.trim();
        if secret.is_empty() {
            return Err(ChatSetupError::KeyForm { origin, problem: "it is empty" });
        }
        if !secret.chars().all(|c| c.is_ascii_graphic()) {
            let problem = "it must be one word of ASCII characters";
            return Err(ChatSetupError::KeyForm { origin, problem });
        }
        Ok(Self { secret: secret.into(), origin: origin.into() })
    }

    /// The value of the header `Authorization`.
    pub(super) fn authorization(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.secret))
            .expect("a key is of visible ASCII characters");
        value.set_sensitive(true);
        value
    }

    /// Where a user finds the key.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// The text without the key: a server may echo what it was sent.
    pub(super) fn scrub(&self, text: &str) -> String {
        text.replace(&*self.secret, "[key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey([redacted], from {})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-test-73b1";

    fn from_variable(value: Option<&str>) -> Result<Option<ApiKey>, ChatSetupError> {
        let settings = ChatSettings { api_key_env: Some("JUDGE_KEY".into()), ..ChatSettings::default() };
        ApiKey::read(&settings, |name| value.filter(|_| name == "JUDGE_KEY").map(str::to_owned))
    }

    #[test]
    fn a_key_is_sent_but_neither_shown_nor_echoed() {
        let key = from_variable(Some(&format!(" {SECRET}\n"))).expect("reads").expect("is there");
        assert_eq!(key.authorization().to_str().expect("ASCII"), format!("Bearer {SECRET}"));
        assert_eq!(key.scrub("wrong key sk-test-73b1!"), "wrong key [key]!");
        let shown = format!("{key:?} {:?}", key.authorization());
        assert!(shown.starts_with("ApiKey([redacted], from environment variable `JUDGE_KEY`)"), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_origin() {
        let error = |value| from_variable(value).expect_err("refused").to_string();
        assert_eq!(error(None), "environment variable `JUDGE_KEY` is not set: it should hold the API key");
        assert_eq!(error(Some(" \n")), "environment variable `JUDGE_KEY`: no API key: it is empty");
        let two_lines = error(Some("sk-test-73b1\nX-Evil: 1"));
        assert_eq!(
            two_lines,
            "environment variable `JUDGE_KEY`: no API key: it must be one word of ASCII characters"
        );
        assert!(ApiKey::read(&ChatSettings::default(), |_| None).expect("none needed").is_none());
    }

    #[test]
    fn a_file_is_read_or_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("key");
        let settings = ChatSettings { api_key_file: Some(path.clone()), ..ChatSettings::default() };
        let error = ApiKey::read(&settings, |_| None).expect_err("no file").to_string();
        assert!(error.starts_with(&format!("{}: the API key cannot be read: ", path.display())), "{error}");
        std::fs::write(&path, format!("{SECRET}\n")).expect("writes");
        let key = ApiKey::read(&settings, |_| None).expect("reads").expect("is there");
        assert_eq!((key.origin(), &*key.secret), (path.display().to_string().as_str(), SECRET));
    }
}
