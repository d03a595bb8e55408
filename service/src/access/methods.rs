//! The one table of who may call which gRPC method. A method that is not in it is refused.

use super::Role::{self, Read, Submit, Trainer, Worker};

/// Whom a method is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Everybody, with or without a token.
    Anybody,
    /// Whoever has a token.
    AnyToken,
    /// These roles, and admin.
    Roles(&'static [Role]),
}

/// How long a method may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer, before the deadline of all such calls.
    Unary,
    /// As long as both sides go on; each has its own bound on silence.
    Streaming,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// As in a request's URL.
    pub path: &'static str,
    /// Whom it is for.
    pub callers: Callers,
    /// How long it may take.
    pub kind: Kind,
}

const LOOK: Callers = Callers::Roles(&[Submit, Read]);
const STEER: Callers = Callers::Roles(&[Submit]);
const WORK: Callers = Callers::Roles(&[Worker]);
const SCORE: Callers = Callers::Roles(&[Trainer]);

/// Every method that is served.
pub const METHODS: &[Method] = &[
    unary("/sinternal.v1.JobService/SubmitJob", STEER),
    unary("/sinternal.v1.JobService/GetJob", LOOK),
    unary("/sinternal.v1.JobService/ListJobs", LOOK),
    streaming("/sinternal.v1.JobService/WatchJob", LOOK),
    unary("/sinternal.v1.JobService/CancelJob", STEER),
    unary("/sinternal.v1.JobService/PauseJob", STEER),
    unary("/sinternal.v1.JobService/ResumeJob", STEER),
    unary("/sinternal.v1.JobService/ListSamples", LOOK),
    unary("/sinternal.v1.JobService/ListMetrics", LOOK),
    unary("/sinternal.v1.JobService/ListArtifacts", LOOK),
    streaming("/sinternal.v1.JobService/FetchArtifact", LOOK),
    unary("/sinternal.v1.RolloutService/Register", WORK),
    unary("/sinternal.v1.RolloutService/Lease", WORK),
    streaming("/sinternal.v1.RolloutService/SubmitTraces", WORK),
    unary("/sinternal.v1.RolloutService/RejectTask", WORK),
    unary("/sinternal.v1.RolloutService/Heartbeat", WORK),
    streaming("/sinternal.v1.RolloutService/FetchFile", WORK),
    streaming("/sinternal.v1.RewardService/LoadVerifier", SCORE),
    streaming("/sinternal.v1.RewardService/Score", SCORE),
    unary("/sinternal.v1.RewardService/RewardStatus", SCORE),
    unary("/grpc.health.v1.Health/Check", Callers::Anybody),
    streaming("/grpc.health.v1.Health/Watch", Callers::AnyToken),
    streaming("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Callers::AnyToken),
];

/// The row of a path.
#[must_use]
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

const fn unary(path: &'static str, callers: Callers) -> Method {
    Method { path, callers, kind: Kind::Unary }
}

const fn streaming(path: &'static str, callers: Callers) -> Method {
    Method { path, callers, kind: Kind::Streaming }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::collections::BTreeMap;

    /// Path and kind of every method of the descriptors that reflection serves, and of reflection itself.
    fn served() -> BTreeMap<String, Kind> {
        let own = sinternal_proto::pb::DESCRIPTORS;
        let sets =
            [own, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET];
        let files = sets
            .into_iter()
            .flat_map(|set| prost_types::FileDescriptorSet::decode(set).expect("descriptors decode").file);
        let mut served = BTreeMap::new();
        for file in files {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    served.insert(path, if streams { Kind::Streaming } else { Kind::Unary });
                }
            }
        }
        served
    }

    #[test]
    fn every_method_of_the_descriptors_has_its_row_and_every_row_its_method() {
        let table = METHODS.iter().map(|m| (m.path.to_owned(), m.kind)).collect::<BTreeMap<_, _>>();
        assert_eq!(table.len(), METHODS.len(), "a path is there twice");
        assert_eq!(table, served());
        assert_eq!(method("/sinternal.v1.JobService/GetJob").map(|m| m.callers), Some(LOOK));
        assert_eq!(method("/sinternal.v1.JobService/getjob"), None);
    }
}
