//! What the settings must hold beyond their types.

use super::ChatSettings;
use crate::config::Invalid;
use reqwest::Url;
use std::net::IpAddr;
use std::time::Duration;

/// More would only queue at the endpoint.
const MOST_CONCURRENT: usize = 4096;

/// A week: longer waits are mistakes of the unit.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl ChatSettings {
    /// Checks every key; `section` is what stands before them in the configuration, such as `expert`.
    ///
    /// # Errors
    /// The first key that breaks a rule, and the rule.
    pub fn validate(&self, section: &str) -> Result<(), Invalid> {
        self.broken_rule().map_or(Ok(()), |(key, problem)| {
            let dotted = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            Err(Invalid::new(dotted, problem))
        })
    }

    fn broken_rule(&self) -> Option<(&'static str, String)> {
        self.address_rule()
            .or_else(|| self.key_rule())
            .or_else(|| self.time_rule())
            .or_else(|| self.number_rule())
    }

    fn address_rule(&self) -> Option<(&'static str, String)> {
        if let Err(problem) = parse_base_url(&self.base_url, self.allow_insecure) {
            return Some(("base_url", problem));
        }
        self.model.trim().is_empty().then(|| ("model", "must name a model of the endpoint".into()))
    }

    fn key_rule(&self) -> Option<(&'static str, String)> {
        if self.api_key_file.is_some() && self.api_key_env.is_some() {
            return Some(("api_key_env", "must not be set beside `api_key_file`: give one of them".into()));
        }
        let nameless =
            self.api_key_env.as_ref().is_some_and(|name| name.is_empty() || name.contains(['=', '\0']));
        nameless.then(|| ("api_key_env", "must be the name of an environment variable".into()))
    }

    fn time_rule(&self) -> Option<(&'static str, String)> {
        let times = [
            ("call_s", self.call),
            ("request_s", self.request),
            ("retry_base_s", self.retry_base),
            ("retry_cap_s", self.retry_cap),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Some((key, "must be more than 0 seconds".into()));
        }
        if let Some((key, _)) = times.into_iter().find(|(_, time)| *time > LONGEST) {
            return Some((key, format!("must be at most {} seconds, a week", LONGEST.as_secs())));
        }
        at_least("request_s", self.request, "call_s", self.call)
            .or_else(|| at_least("retry_cap_s", self.retry_cap, "retry_base_s", self.retry_base))
    }

    fn number_rule(&self) -> Option<(&'static str, String)> {
        let price = |price: Option<f64>| price.is_none_or(|x| x.is_finite() && x >= 0.0);
        let rules = [
            (
                "max_concurrent",
                (1..=MOST_CONCURRENT).contains(&self.max_concurrent),
                format!("must be 1 to {MOST_CONCURRENT}; it is {}", self.max_concurrent),
            ),
            (
                "requests_per_minute",
                self.requests_per_minute != Some(0),
                "must be at least 1; it is 0".to_owned(),
            ),
            (
                "temperature",
                (0.0..=2.0).contains(&self.temperature),
                format!("must be 0 to 2; it is {}", self.temperature),
            ),
            ("max_tokens", self.max_tokens > 0, "must be at least 1; it is 0".to_owned()),
            (
                "top_p",
                self.top_p.is_none_or(|p| p > 0.0 && p <= 1.0),
                "must be above 0 and at most 1".to_owned(),
            ),
            ("price_input", price(self.price_input), "must be at least 0".to_owned()),
            ("price_output", price(self.price_output), "must be at least 0".to_owned()),
            (
                "price_output",
                self.price_input.is_some() == self.price_output.is_some(),
                "must be set exactly if `price_input` is".to_owned(),
            ),
        ];
        rules.into_iter().find(|(_, holds, _)| !holds).map(|(key, _, problem)| (key, problem))
    }
}

/// The endpoint's address. What it says never repeats the address where that holds a password.
pub(super) fn parse_base_url(text: &str, allow_insecure: bool) -> Result<Url, String> {
    const EXAMPLE: &str = "such as https://api.example.com/v1";
    if text.is_empty() {
        return Err(format!("must be set to the endpoint's address, {EXAMPLE}"));
    }
    let url = Url::parse(text).map_err(|problem| format!("must be an address {EXAMPLE}: {problem}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user or password: put the key into `api_key_file` or `api_key_env`".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "must have no `?` or `#`: it is what stands before /chat/completions, {EXAMPLE}"
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_insecure || is_loopback(&url) => Ok(url),
        "http" => {
            Err(format!("must begin with https:// beyond this machine, or set `allow_insecure`; it is {url}"))
        }
        _ => Err(format!("must begin with https:// or http://, {EXAMPLE}; it is {url}")),
    }
}

/// The address is this machine's, so nothing crosses a network.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

fn at_least(
    key: &'static str,
    value: Duration,
    other: &str,
    least: Duration,
) -> Option<(&'static str, String)> {
    let seconds = |time: Duration| time.as_secs_f64();
    (value < least).then(|| {
        (
            key,
            format!("must be at least `{other}`; they are {} and {} seconds", seconds(value), seconds(least)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn good() -> ChatSettings {
        ChatSettings::new("https://api.example.com/v1", "judge-1")
    }

    fn problem(change: impl FnOnce(&mut ChatSettings)) -> String {
        let mut settings = good();
        change(&mut settings);
        settings.validate("expert").expect_err("breaks a rule").to_string()
    }

    #[test]
    fn the_documented_defaults_hold_once_address_and_model_are_given() {
        good().validate("expert").expect("valid");
        let missing = ChatSettings::default().validate("expert").expect_err("no address").to_string();
        assert_eq!(
            missing,
            "`expert.base_url` must be set to the endpoint's address, such as https://api.example.com/v1"
        );
        assert_eq!(problem(|s| s.model = " ".into()), "`expert.model` must name a model of the endpoint");
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_allowed() {
        for local in ["http://127.0.0.1:8000/v1", "http://[::1]:8000/v1", "http://localhost:8000/v1"] {
            ChatSettings::new(local, "m").validate("").expect("loopback");
        }
        for remote in ["http://10.0.0.7:8000/v1", "http://localhost.example.com/v1"] {
            let text = problem(|s| s.base_url = remote.into());
            assert!(text.contains("must begin with https:// beyond this machine"), "{text}");
            ChatSettings { allow_insecure: true, ..ChatSettings::new(remote, "m") }
                .validate("")
                .expect("allowed");
        }
        assert!(problem(|s| s.base_url = "ftp://x/v1".into()).contains("https:// or http://"));
    }

    #[test]
    fn an_address_with_a_password_is_refused_without_repeating_it() {
        for address in ["https://user:hunter2@api.example.com/v1", "https://api.example.com/v1?key=hunter2"] {
            let text = problem(|s| s.base_url = address.into());
            assert!(text.starts_with("`expert.base_url` must h") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn each_broken_rule_names_its_key() {
        let nameless = problem(|s| s.api_key_env = Some(String::new()));
        assert_eq!(nameless, "`expert.api_key_env` must be the name of an environment variable");
        let both = problem(|s| {
            s.api_key_file = Some(PathBuf::from("key"));
            s.api_key_env = Some("KEY".into());
        });
        assert_eq!(both, "`expert.api_key_env` must not be set beside `api_key_file`: give one of them");
        assert_eq!(problem(|s| s.call = Duration::ZERO), "`expert.call_s` must be more than 0 seconds");
        assert_eq!(
            problem(|s| s.request = Duration::MAX),
            "`expert.request_s` must be at most 604800 seconds, a week"
        );
        assert_eq!(
            problem(|s| s.request = Duration::from_secs(60)),
            "`expert.request_s` must be at least `call_s`; they are 60 and 120 seconds"
        );
        assert_eq!(
            problem(|s| s.retry_cap = Duration::from_millis(500)),
            "`expert.retry_cap_s` must be at least `retry_base_s`; they are 0.5 and 1 seconds"
        );
        assert_eq!(problem(|s| s.max_concurrent = 0), "`expert.max_concurrent` must be 1 to 4096; it is 0");
        assert_eq!(problem(|s| s.temperature = -1.0), "`expert.temperature` must be 0 to 2; it is -1");
        assert_eq!(problem(|s| s.temperature = f64::NAN), "`expert.temperature` must be 0 to 2; it is NaN");
        assert_eq!(problem(|s| s.max_tokens = 0), "`expert.max_tokens` must be at least 1; it is 0");
        assert_eq!(problem(|s| s.top_p = Some(0.0)), "`expert.top_p` must be above 0 and at most 1");
        assert_eq!(problem(|s| s.price_input = Some(-1.0)), "`expert.price_input` must be at least 0");
        assert_eq!(
            problem(|s| s.price_input = Some(3.0)),
            "`expert.price_output` must be set exactly if `price_input` is"
        );
        assert_eq!(
            problem(|s| s.requests_per_minute = Some(0)),
            "`expert.requests_per_minute` must be at least 1; it is 0"
        );
    }

    #[test]
    fn unknown_keys_are_refused_and_all_keys_survive_a_round_trip() {
        let unknown = toml::from_str::<ChatSettings>("base_url = \"x\"\napi_key = \"secret\"");
        assert!(unknown.expect_err("no such key").to_string().contains("unknown field `api_key`"));
        let text = "base_url = \"https://a.example/v1\"\nmodel = \"m\"\ncall_s = 1.5\ntop_p = 0.9\n\
                    token_limit_field = \"max_completion_tokens\"\ncache = \"c\"";
        let settings: ChatSettings = toml::from_str(text).expect("parses");
        assert_eq!(settings.call, Duration::from_millis(1500));
        let again: ChatSettings =
            toml::from_str(&toml::to_string(&settings).expect("writes")).expect("parses");
        assert_eq!(again, settings);
    }
}
