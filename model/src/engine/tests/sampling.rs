//! Stop tokens and strings, constrained tokens, plain log-probabilities.

use super::*;

/// Token i is the i-th letter from `A` on.
fn letters(tokens: &[u32]) -> String {
    tokens.iter().map(|&t| char::from_u32(65 + t).unwrap()).collect()
}

fn one(engine: &mut Engine, sampling: SamplingParams, choice: Option<Choice>) -> Finished {
    let request = Request { choice, ..request(1, &[1, 2], &[0], sampling) };
    engine.submit(request).unwrap();
    run(engine).remove(0)
}

#[test]
fn a_stop_string_over_three_tokens_ends_the_completion() {
    let mut engine = engine(4).with_decoder(letters);
    let free = one(&mut engine, sampling(30), None);
    let stop = letters(&free.tokens[10..13]);
    let end = letters(&free.tokens).find(&stop).unwrap() + 3; // tokens are letters
    let stop_strings = vec!["a".repeat(9), stop];
    let stopped = one(&mut engine, SamplingParams { stop_strings, ..sampling(30) }, None);
    assert_eq!((stopped.finish, &stopped.tokens[..]), (Finish::StopString(1), &free.tokens[..end]));
}

#[test]
fn a_stop_token_ends_the_completion_even_where_end_of_text_is_ignored() {
    let mut engine = engine(4);
    let free = one(&mut engine, sampling(30), None);
    let stop = free.tokens[8];
    let end = free.tokens.iter().position(|&t| t == stop).unwrap() + 1;
    let stopped = one(&mut engine, SamplingParams { stop_tokens: vec![49, stop], ..sampling(30) }, None);
    let end = free.tokens.iter().position(|&t| t == 49).map_or(end, |at| end.min(at + 1));
    assert_eq!(stopped.tokens, free.tokens[..end]);
    assert_eq!(stopped.finish, Finish::StopToken(stopped.tokens[end - 1]));
}

#[test]
fn plain_log_probabilities_are_those_of_the_model() {
    let mut engine = engine(4);
    let bent =
        SamplingParams { temperature: 0.7, top_k: 5, min_p: 0.01, plain_logprobs: true, ..sampling(20) };
    let finished = one(&mut engine, bent, None);
    let plain = finished.plain_logprobs.unwrap();
    let expected = uncached(engine.lm(), &[1, 2], &finished.tokens);
    assert!(plain.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(plain.iter().zip(&finished.logprobs).any(|(a, b)| (a - b).abs() > 0.01));
    assert_eq!(one(&mut engine, sampling(2), None).plain_logprobs, None);
}

#[test]
fn an_allowed_set_holds_at_every_token() {
    let mut engine = engine(4);
    let allowed = vec![3, 17, 40];
    let choice =
        Choice { trigger: Vec::new(), choices: allowed.clone(), pick: Pick::Drawn, then: Then::GoOn };
    let hot = SamplingParams { temperature: 3.0, plain_logprobs: true, ..sampling(40) };
    let finished = one(&mut engine, hot, Some(choice));
    assert_eq!((finished.tokens.len(), finished.finish), (40, Finish::Length));
    assert!(allowed.iter().all(|t| finished.tokens.contains(t)), "{:?}", finished.tokens);
    assert!(finished.tokens.iter().all(|t| allowed.contains(t)));
    // The last draw: softmax over the three at temperature 3, from the model's own log-probabilities.
    let of = finished.choice_logprobs.unwrap();
    let total: f32 = of.iter().map(|l| (l / 3.0).exp()).sum();
    let at = allowed.iter().position(|t| t == finished.tokens.last().unwrap()).unwrap();
    assert!((finished.logprobs[39] - (of[at] / 3.0 - total.ln())).abs() < 1e-4);
    let expected = uncached(engine.lm(), &[1, 2], &finished.tokens);
    assert!(finished.plain_logprobs.unwrap().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn refuses_stops_and_sets_that_cannot_work() {
    let mut plain = engine(4);
    let mut refuse = |sampling: SamplingParams, choices: Option<Vec<u32>>| {
        let choice = choices.map(|c| Choice::verdict(Vec::new(), c));
        let request = Request { choice, ..request(1, &[1], &[0], sampling) };
        plain.submit(request).unwrap_err().to_string()
    };
    let stop = |s: &str| SamplingParams { stop_strings: vec![s.into()], ..sampling(1) };
    assert!(refuse(stop("x"), None).contains("need a tokenizer"));
    assert!(refuse(stop(""), None).contains("a stop string is empty"));
    let token = SamplingParams { stop_tokens: vec![50], ..sampling(1) };
    assert!(refuse(token, None).contains("stop token 50 is outside"));
    assert!(refuse(SamplingParams { min_p: 1.5, ..sampling(1) }, None).contains("min_p 1.5"));
    assert!(refuse(sampling(1), Some(vec![])).contains("allows no token"));
    assert!(refuse(sampling(1), Some(vec![51])).contains("allowed token 51 is outside"));
}
