//! Which jobs a client wants to see, page by page.

use sinternal_proto::error::Invalid;
use sinternal_proto::{JobState, JobStatus};

/// A page of jobs that match, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobStatus>,
    /// Where the next page begins; empty after the last.
    pub next: String,
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Any of these states; all if empty.
    pub states: Vec<JobState>,
    /// A part of the job's name.
    pub name: String,
    /// Most jobs of a page.
    pub size: usize,
    /// Only jobs submitted before this, in milliseconds since the Unix epoch: [`JobPage::next`] of the page before.
    pub before_ms: u64,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self { states: Vec::new(), name: String::new(), size: Self::DEFAULT_SIZE, before_ms: u64::MAX }
    }
}

impl JobFilter {
    /// Jobs of a page where nothing is said.
    pub const DEFAULT_SIZE: usize = 100;
    /// Most jobs of a page.
    pub const LARGEST_SIZE: usize = 1000;

    /// Reads [`JobPage::next`]; empty is the first page.
    ///
    /// # Errors
    /// When it is no token of ours.
    pub fn before(token: &str) -> Result<u64, Invalid> {
        if token.is_empty() {
            return Ok(u64::MAX);
        }
        let problem = || format!("`{token}` is not the next_page_token of an earlier response");
        token.parse().map_err(|_| Invalid { field: "page_token", problem: problem() })
    }

    /// The page of `jobs`, which are in any order. No two jobs of a trainer have the same time.
    #[must_use]
    pub fn page(&self, jobs: impl IntoIterator<Item = JobStatus>) -> JobPage {
        let mut jobs: Vec<_> = jobs.into_iter().filter(|job| self.takes(job)).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created_ms));
        let more = jobs.len() > self.size;
        jobs.truncate(self.size);
        let last = jobs.last().filter(|_| more);
        let next = last.map_or_else(String::new, |job| job.created_ms.to_string());
        JobPage { jobs, next }
    }

    fn takes(&self, job: &JobStatus) -> bool {
        job.created_ms < self.before_ms
            && (self.states.is_empty() || self.states.contains(&job.state))
            && job.name.contains(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::JobId;

    fn job(created_ms: u64, state: JobState) -> JobStatus {
        JobStatus {
            id: JobId(format!("j{created_ms}")),
            name: if created_ms.is_multiple_of(2) { "even" } else { "odd" }.into(),
            state,
            reason: String::new(),
            run_dir: "runs/j".into(),
            created_ms,
            stage: String::new(),
            step: 0,
            steps: 0,
            priority: 0,
            attempts: 0,
            started_ms: None,
            ended_ms: None,
        }
    }

    fn times(page: &JobPage) -> Vec<u64> {
        page.jobs.iter().map(|job| job.created_ms).collect()
    }

    #[test]
    fn pages_follow_each_other_from_the_newest_on() {
        let jobs = || [3, 1, 5, 2, 4].map(|ms| job(ms, JobState::Queued));
        let mut filter = JobFilter { size: 2, ..JobFilter::default() };
        let mut seen = Vec::new();
        loop {
            let page = filter.page(jobs());
            seen.push(times(&page));
            if page.next.is_empty() {
                break;
            }
            filter.before_ms = JobFilter::before(&page.next).unwrap();
        }
        assert_eq!(seen, [vec![5, 4], vec![3, 2], vec![1]]);
        assert_eq!(JobFilter { size: 5, ..JobFilter::default() }.page(jobs()).next, "");
        assert_eq!(JobFilter::before("").unwrap(), u64::MAX);
        let wrong = JobFilter::before("x").unwrap_err().to_string();
        assert_eq!(wrong, "page_token: `x` is not the next_page_token of an earlier response");
    }

    #[test]
    fn states_and_names_are_filtered() {
        let jobs = || [job(1, JobState::Failed), job(2, JobState::Failed), job(3, JobState::Running)];
        let filter = |states, name: &str| JobFilter { states, name: name.into(), ..JobFilter::default() };
        assert_eq!(times(&filter(vec![JobState::Failed], "").page(jobs())), [2, 1]);
        assert_eq!(times(&filter(vec![], "odd").page(jobs())), [3, 1]);
        assert!(filter(vec![JobState::Paused], "").page(jobs()).jobs.is_empty());
    }
}
