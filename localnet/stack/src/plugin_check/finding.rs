//! One line of the check's answer.

use std::fmt;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// The plugin loads, but somebody should look.
    Warn,
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub verdict: Verdict,
    pub detail: String,
    /// Empty when there is nothing to do.
    pub fix: String,
}

impl Finding {
    pub fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Ok, detail.into(), String::new())
    }

    pub fn warn(what: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(what, Verdict::Warn, detail.into(), fix.into())
    }

    pub fn fail(what: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(what, Verdict::Fail, detail.into(), fix.into())
    }

    fn new(what: &'static str, verdict: Verdict, detail: String, fix: String) -> Self {
        // A line stays a line, whatever a file or a server put into its message.
        let line = |text: String| text.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
        Self {
            what,
            verdict,
            detail: line(detail),
            fix: line(fix),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "OK",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict:<4}  {:<13}  {}", self.what, self.detail)?;
        if !self.fix.is_empty() {
            write!(f, ". Fix: {}", self.fix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_fix_at_the_end() {
        let finding = Finding::fail("kafka", "refused:\nno such user", "set `kafka.options`");
        assert_eq!(
            finding.to_string(),
            "FAIL  kafka          refused: no such user. Fix: set `kafka.options`"
        );
        let finding = Finding::ok("spill", "120 GiB free");
        assert_eq!(finding.to_string(), "OK    spill          120 GiB free");
    }
}
