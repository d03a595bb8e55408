//! The JSON of a request and of its answer.

use super::error::cut;
use super::{ChatAnswer, ChatProblem, ChatRequest, ChatSettings, Finish, Source, TokenLimitField, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinternal_proto::Message;

/// Field order is part of the cache key: a change here asks everything again.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    stream: bool,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: WireMessage,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireMessage {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// What is sent.
pub(super) fn request_body(settings: &ChatSettings, request: &ChatRequest) -> Vec<u8> {
    let limit = |field| (settings.token_limit_field == field).then_some(settings.max_tokens);
    let body = Body {
        model: &settings.model,
        messages: &request.messages,
        temperature: settings.temperature,
        max_tokens: limit(TokenLimitField::MaxTokens),
        max_completion_tokens: limit(TokenLimitField::MaxCompletionTokens),
        top_p: settings.top_p,
        seed: settings.seed_of(request),
        stream: false,
    };
    serde_json::to_vec(&body).expect("texts and numbers are always JSON")
}

/// The answer of a call that succeeded. Only what is there is believed: nothing is guessed.
pub(super) fn parse_answer(content_type: Option<&str>, body: &[u8]) -> Result<ChatAnswer, ChatProblem> {
    if let Some(other) = content_type.filter(|kind| !is_json(kind)) {
        let problem = format!("its content type is {}, not application/json; is base_url right?", cut(other));
        return Err(ChatProblem::Malformed(problem));
    }
    let completion: Completion = serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
    let [choice] = <[Choice; 1]>::try_from(completion.choices)
        .map_err(|all| ChatProblem::Malformed(format!("it holds {} choices, not 1", all.len())))?;
    let usage = completion
        .usage
        .map(|usage| Usage { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens });
    let (text, finish) = outcome(choice);
    if text.trim().is_empty() && !finish.explains_no_text() {
        return Err(ChatProblem::Empty { finish: cut(finish.as_str()) });
    }
    Ok(ChatAnswer { text, finish, usage, source: Source::Server })
}

/// What a failed call says of itself: its message, and whether the account's quota is used up.
pub(super) fn parse_failure(body: &[u8]) -> (String, bool) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (cut(&String::from_utf8_lossy(body)), false);
    };
    let error = value.get("error").unwrap_or(&value);
    let field = |name: &str| error.get(name).and_then(Value::as_str);
    let out_of_quota = [field("code"), field("type")].contains(&Some("insufficient_quota"));
    let message = error.as_str().or_else(|| field("message")).or_else(|| field("detail"));
    (message.map_or_else(|| cut(&value.to_string()), cut), out_of_quota)
}

fn outcome(choice: Choice) -> (String, Finish) {
    let content = choice.message.content.unwrap_or_default();
    match choice.message.refusal.filter(|refusal| !refusal.is_empty() && content.is_empty()) {
        Some(refusal) => (refusal, Finish::Refusal),
        None => {
            (content, choice.finish_reason.as_deref().map_or(Finish::Other("absent".into()), Finish::parse))
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Some servers answer an error with status 200; its words say more than the missing field.
fn malformed(body: &[u8], error: &serde_json::Error) -> ChatProblem {
    let is_error = serde_json::from_slice::<Value>(body).is_ok_and(|value| value.get("error").is_some());
    let says = if is_error { format!("; it says: {}", parse_failure(body).0) } else { String::new() };
    ChatProblem::Malformed(format!("{}{says}", cut(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<ChatAnswer, ChatProblem> {
        parse_answer(Some("application/json; charset=utf-8"), body.to_string().as_bytes())
    }

    fn choice(message: &Value, finish: &Value) -> Value {
        json!({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})
    }

    #[test]
    fn a_request_holds_what_was_set_and_nothing_else() {
        let settings = ChatSettings { seed: Some(7), ..ChatSettings::new("https://x/v1", "m") };
        let request = ChatRequest::new(vec![Message { role: "user".into(), content: "hi".into() }]);
        let body = |settings: &ChatSettings, request: &ChatRequest| {
            String::from_utf8(request_body(settings, request)).expect("text")
        };
        assert_eq!(
            body(&settings, &request),
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.0,"max_tokens":1024,"seed":7,"stream":false}"#
        );
        let newer = ChatSettings {
            token_limit_field: TokenLimitField::MaxCompletionTokens,
            top_p: Some(0.5),
            ..settings
        };
        assert!(body(&newer, &request.with_seed(9)).ends_with(
            r#""temperature":0.0,"max_completion_tokens":1024,"top_p":0.5,"seed":9,"stream":false}"#
        ));
    }

    #[test]
    fn an_answer_has_text_finish_and_usage() {
        let mut body = choice(&json!({"role": "assistant", "content": "fine"}), &json!("stop"));
        assert_eq!(parse(&body).expect("answer").usage, None);
        body["usage"] = json!({"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14});
        let answer = parse(&body).expect("answer");
        assert_eq!((answer.text.as_str(), answer.finish), ("fine", Finish::Stop));
        assert_eq!(answer.usage, Some(Usage { input_tokens: 11, output_tokens: 3 }));
    }

    #[test]
    fn finishes_are_told_apart() {
        let finish =
            |message, finish| parse(&choice(&message, &finish)).map(|answer| (answer.text, answer.finish));
        let part = ("par".to_owned(), Finish::Length);
        assert_eq!(finish(json!({"content": "par"}), json!("length")), Ok(part));
        assert_eq!(finish(json!({"content": null}), json!("length")), Ok((String::new(), Finish::Length)));
        let filtered = (String::new(), Finish::ContentFilter);
        assert_eq!(finish(json!({"content": null}), json!("content_filter")), Ok(filtered));
        let refused = ("I will not".to_owned(), Finish::Refusal);
        assert_eq!(finish(json!({"content": null, "refusal": "I will not"}), json!("stop")), Ok(refused));
        let unknown = ("x".to_owned(), Finish::Other("absent".into()));
        assert_eq!(finish(json!({"content": "x"}), json!(null)), Ok(unknown));
        for (message, reason) in
            [(json!({"content": " \n"}), "stop"), (json!({"content": null}), "tool_calls")]
        {
            assert_eq!(finish(message, json!(reason)), Err(ChatProblem::Empty { finish: reason.into() }));
        }
    }

    #[test]
    fn what_is_no_completion_says_why() {
        let problem = |body: &Value| parse(body).expect_err("malformed").to_string();
        let none = problem(&json!({"id": "x"}));
        assert!(none.starts_with("the answer is no chat completion: missing field `choices`"), "{none}");
        let error = problem(&json!({"error": {"message": "model is loading", "code": 503}}));
        assert!(error.ends_with("; it says: model is loading"), "{error}");
        assert_eq!(
            problem(&json!({"choices": []})),
            "the answer is no chat completion: it holds 0 choices, not 1"
        );
        let page = parse_answer(Some("text/html"), b"<html>").expect_err("a page").to_string();
        assert!(page.contains("its content type is text/html, not application/json"), "{page}");
        let broken = parse_answer(None, b"{\"choices\": [").expect_err("cut").to_string();
        assert!(broken.contains("EOF while parsing"), "{broken}");
    }

    #[test]
    fn a_failures_words_are_found_in_every_usual_place() {
        let words = |body: &str| parse_failure(body.as_bytes());
        assert_eq!(words(r#"{"error":{"message":"no such model"}}"#), ("no such model".into(), false));
        assert_eq!(words(r#"{"error":"overloaded"}"#), ("overloaded".into(), false));
        assert_eq!(words(r#"{"object":"error","message":"too long"}"#), ("too long".into(), false));
        assert_eq!(words(r#"{"detail":"Not Found"}"#), ("Not Found".into(), false));
        assert_eq!(words("bad\ngateway"), ("bad gateway".into(), false));
        assert_eq!(words(""), ("no message".into(), false));
        let quota = r#"{"error":{"message":"pay","code":"insufficient_quota"}}"#;
        assert_eq!(words(quota), ("pay".into(), true));
    }
}
