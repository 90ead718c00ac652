//! The meaning of an answer. As SRS has it: 200 or 201, and a body that is `0` or a JSON object whose `code` is 0, allows.

use serde::Deserialize;

use super::refusal::Reason;
use crate::policy::outbound::Answered;

/// The meaning of a hook's answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The hook allows.
    Allowed,
    /// The hook refuses; no setting overrides that.
    Refused(Reason),
    /// The hook's server is at fault, and has not decided.
    Failed { status: u16 },
}

#[derive(Deserialize)]
struct Object {
    code: i64,
}

pub(super) fn verdict(answered: &Answered) -> Verdict {
    match answered.status {
        200 | 201 => {}
        500.. => return Verdict::Failed { status: answered.status },
        status => return Verdict::Refused(Reason::Status(status)),
    }
    if &answered.body[..] == b"0" {
        return Verdict::Allowed;
    }
    // serde would read a list as an object too.
    let is_list = answered.body.trim_ascii_start().starts_with(b"[");
    match serde_json::from_slice(&answered.body) {
        _ if is_list => Verdict::Refused(Reason::NoCode),
        Ok(Object { code: 0 }) => Verdict::Allowed,
        Ok(Object { code }) => Verdict::Refused(Reason::Code(code)),
        Err(_) => match serde_json::from_slice::<i64>(&answered.body) {
            Ok(code) if code != 0 => Verdict::Refused(Reason::Code(code)),
            _ => Verdict::Refused(Reason::NoCode),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_alone_allows() {
        use Reason::{Code, NoCode, Status};
        for (status, body, expected) in [
            (200, "0", Verdict::Allowed),
            (201, "0", Verdict::Allowed),
            (200, r#"{"code":0}"#, Verdict::Allowed),
            (200, r#"{"code":0,"data":null}"#, Verdict::Allowed),
            (200, r#" {"data": {"code": 1}, "code": 0, "msg": "ok"} "#, Verdict::Allowed),
            (200, "1", Verdict::Refused(Code(1))),
            (200, r#"{"code":100,"data":null}"#, Verdict::Refused(Code(100))),
            (200, r#"{"code":-1}"#, Verdict::Refused(Code(-1))),
            (200, r#"{"code":"0"}"#, Verdict::Refused(NoCode)),
            (200, r#"{"code":0.0}"#, Verdict::Refused(NoCode)),
            (200, r#"{"code":0,"code":1}"#, Verdict::Refused(NoCode)),
            (200, r#"{"code":null}"#, Verdict::Refused(NoCode)),
            (200, r#"{}"#, Verdict::Refused(NoCode)),
            (200, "", Verdict::Refused(NoCode)),
            (200, "0\n", Verdict::Refused(NoCode)),
            (200, "00", Verdict::Refused(NoCode)),
            (200, "ok", Verdict::Refused(NoCode)),
            (200, "[0]", Verdict::Refused(NoCode)),
            (200, "\u{feff}0", Verdict::Refused(NoCode)),
            (204, "", Verdict::Refused(Status(204))),
            (302, "0", Verdict::Refused(Status(302))),
            (403, r#"{"code":0}"#, Verdict::Refused(Status(403))),
            (500, "0", Verdict::Failed { status: 500 }),
            (502, "", Verdict::Failed { status: 502 }),
        ] {
            let answered = Answered { status, body: body.into() };
            assert_eq!(verdict(&answered), expected, "{status} {body}");
        }
    }
}
