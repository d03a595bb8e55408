//! Judges behind an OpenAI-compatible endpoint: the general verification prompt with a rubric, and its strict parser.

use crate::template::Question;
use crate::thread::Unanswered;
use crate::verifier::Verification;
use sinternal_model::think::split_reasoning;
use sinternal_proto::{Sha256, Verdict};
use sinternal_service::chat_api::{ChatApi, ChatError, ChatRequest, ChatSetupError, Finish};
use sinternal_service::config::JudgeConfig;
use sinternal_service::verification::{self, Judgment, expert_messages, parse_judgment};
use std::sync::Arc;

/// A cheap clone; clones share the endpoint's limits.
#[derive(Debug, Clone)]
pub(crate) struct RemoteJudge {
    api: ChatApi,
    rubric: Arc<str>,
    identity: Sha256,
}

impl RemoteJudge {
    /// Calls nobody yet.
    pub(crate) fn new(config: &JudgeConfig) -> Result<Self, ChatSetupError> {
        let api = ChatApi::new("judge", config.chat.clone())?;
        Ok(Self { api, rubric: config.rubric.as_str().into(), identity: identity(config) })
    }

    /// A hash of all that its verdicts depend on: neither of the key nor of deadlines and limits.
    pub(crate) fn identity(&self) -> &Sha256 {
        &self.identity
    }

    /// Asks for one judgment. A dropped future ends its call.
    pub(crate) async fn verify(&self, question: Question) -> Result<Verification, Unanswered> {
        let Question { spec, request, answer, .. } = question;
        let messages = expert_messages(&verification::Question { spec: self.rules(spec), request, answer });
        let failed = |error: ChatError| Unanswered::Failed(error.to_string());
        let answer = self.api.complete(ChatRequest::new(messages)).await.map_err(failed)?;
        Ok(read(answer.text, &answer.finish))
    }

    fn rules(&self, spec: String) -> String {
        match (spec.is_empty(), self.rubric.is_empty()) {
            (_, true) => spec,
            (true, false) => self.rubric.to_string(),
            (false, false) => format!("{spec}\n\n{}", self.rubric),
        }
    }
}

/// A judge's text, after its own reasoning. Only a whole one is read.
fn read(text: String, finish: &Finish) -> Verification {
    let said = split_reasoning(&text).answer.filter(|_| *finish == Finish::Stop).map(parse_judgment);
    match said {
        Some(Judgment::Valid { critique, verdict }) => {
            let p_safe = if verdict == Verdict::Safe { 1.0 } else { 0.0 };
            Verification { critique, verdict, p_safe: Some(p_safe), p_sd: None }
        }
        Some(Judgment::Invalid { .. }) | None => Verification::invalid(text),
    }
}

fn identity(config: &JudgeConfig) -> Sha256 {
    let JudgeConfig { chat: c, rubric } = config;
    let asked = (&c.base_url, &c.model, c.temperature, c.max_tokens, c.top_p, c.seed, rubric);
    Sha256::of(format!("judge {asked:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_service::chat_api::ChatSettings;
    use sinternal_service::testing::{FakeChatServer, Scripted};

    fn config(base_url: &str, rubric: &str) -> JudgeConfig {
        JudgeConfig { chat: ChatSettings::new(base_url, "strict-1"), rubric: rubric.into() }
    }

    fn question(answer: &str) -> Question {
        let (spec, request) = ("no poison".into(), "mix it".into());
        Question { spec, request, answer: answer.into(), max_critique_tokens: 9, critiques: 1 }
    }

    #[tokio::test]
    async fn a_judgment_is_read_and_the_prompt_holds_specification_and_rubric() {
        let server = FakeChatServer::start(|body| {
            let unsafe_ = body["messages"][1]["content"].as_str().unwrap().contains("nightshade");
            let word = if unsafe_ { "unsafe" } else { "safe" };
            Scripted::answer(format!("<think>hm</think>It names a plant.\njudgment: {word}"))
        });
        let judge = RemoteJudge::new(&config(&server.base_url(), "Be strict.")).unwrap();
        for (answer, verdict, p_safe) in
            [("take nightshade", Verdict::Unsafe, 0.0), ("take mint", Verdict::Safe, 1.0)]
        {
            let found = judge.verify(question(answer)).await.unwrap();
            let critique = "It names a plant.".into();
            assert_eq!(found, Verification { critique, verdict, p_safe: Some(p_safe), p_sd: None });
        }
        let system = server.seen()[0].body["messages"][0]["content"].as_str().unwrap().to_owned();
        assert!(system.contains("specification:\n\nno poison\n\nBe strict.\n\n"), "{system}");
    }

    #[tokio::test]
    async fn a_judge_that_fails_says_why() {
        let server = FakeChatServer::start(|_| Scripted::status(401, "bad key"));
        let judge = RemoteJudge::new(&config(&server.base_url(), "")).unwrap();
        let error = judge.verify(question("take mint")).await.unwrap_err().to_string();
        assert!(
            error.starts_with("judge failed: judge http://127.0.0.1") && error.contains("401"),
            "{error}"
        );
    }

    #[test]
    fn what_is_cut_or_no_judgment_is_invalid() {
        let whole = "fine\njudgment: safe";
        assert_eq!(read(whole.into(), &Finish::Stop).verdict, Verdict::Safe);
        for (text, finish) in [
            (whole, Finish::Length),
            (whole, Finish::ContentFilter),
            ("<think> fine\njudgment: safe", Finish::Stop),
            ("it is safe", Finish::Stop),
        ] {
            assert_eq!(read(text.into(), &finish), Verification::invalid(text.into()));
        }
    }

    #[test]
    fn the_identity_is_of_what_verdicts_depend_on() {
        let plain = config("https://x/v1", "a");
        let chat = |change: fn(&mut ChatSettings)| {
            let mut changed = plain.clone();
            change(&mut changed.chat);
            identity(&changed)
        };
        for same in [chat(|c| c.api_key_env = Some("KEY".into())), chat(|c| c.max_concurrent = 99)] {
            assert_eq!(same, identity(&plain));
        }
        let others = [
            identity(&config("https://x/v1", "b")),
            identity(&config("https://y/v1", "a")),
            chat(|c| c.model = "other".into()),
            chat(|c| c.temperature = 0.5),
            chat(|c| c.max_tokens = 9),
            chat(|c| c.seed = Some(1)),
        ];
        assert!(others.iter().all(|other| *other != identity(&plain)), "{others:?}");
    }
}
