//! Paging: the part of a list that a request asks for.

use std::ops::Range;

use super::reply::Refused;
use crate::router::query_value;

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Page {
    /// Number of entries before it.
    pub start: usize,
    /// The largest number of entries in it.
    pub count: usize,
}

impl Page {
    /// Default of `count` in `/api/v2`.
    pub const DEFAULT_COUNT: usize = 100;
    /// Default of `count` in `/api/v1`, as in SRS.
    pub const SRS_COUNT: usize = 10;
    /// The largest `count`.
    pub const MAX_COUNT: usize = 10_000;

    /// Reads `start` and `count` of a query.
    ///
    /// # Errors
    /// One of them is not a number, or `count` is out of its range.
    pub(super) fn of(query: &str) -> Result<Page, Refused> {
        let number = |name: &str, default: usize, min: usize, max: usize| {
            let Some(text) = query_value(query, name) else { return Ok(default) };
            let number = text.parse().ok().filter(|number| (min..=max).contains(number));
            number.ok_or_else(|| Refused::Parameter(format!("{name} must be {min} to {max}")))
        };
        Ok(Page {
            start: number("start", 0, 0, u32::MAX as usize)?,
            count: number("count", Page::DEFAULT_COUNT, 1, Page::MAX_COUNT)?,
        })
    }

    /// Reads `start` and `count` as SRS does: what is not a number counts as missing, and what is out of range as the next
    /// number in it.
    pub(super) fn lenient(query: &str) -> Page {
        let number = |name: &str| query_value(query, name)?.parse::<i64>().ok();
        let clamped = |number: i64, min: usize, max: usize| (number.max(0) as usize).clamp(min, max);
        Page {
            start: number("start").map_or(0, |start| clamped(start, 0, u32::MAX as usize)),
            count: number("count").map_or(Page::SRS_COUNT, |count| clamped(count, 1, Page::MAX_COUNT)),
        }
    }

    /// Returns the places of its entries in the list.
    pub fn range(self) -> Range<usize> {
        self.start..self.start.saturating_add(self.count)
    }

    /// Returns the entries of a list that are in it.
    pub fn cut<T>(self, entries: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        entries.into_iter().skip(self.start).take(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_queries() {
        let rows = [
            ("", Some((0, 100))),
            ("start=5&count=20", Some((5, 20))),
            ("count=10000", Some((0, 10_000))),
            ("count=0", None),
            ("count=10001", None),
            ("count=", None),
            ("start=-1", None),
            ("start=x", None),
            ("start=99999999999999999999", None),
        ];
        for (query, expected) in rows {
            let page = Page::of(query).ok().map(|page| (page.start, page.count));
            assert_eq!(page, expected, "{query}");
        }
    }

    #[test]
    fn reads_queries_as_srs_does() {
        let rows = [
            ("", (0, 10)),
            ("start=5&count=20", (5, 20)),
            ("start=-5&count=0", (0, 1)),
            ("start=x&count=y", (0, 10)),
            ("count=99999999", (0, 10_000)),
            ("count=99999999999999999999999", (0, 10)),
        ];
        for (query, expected) in rows {
            let page = Page::lenient(query);
            assert_eq!((page.start, page.count), expected, "{query}");
        }
    }

    #[test]
    fn cuts_lists() {
        for (start, count, expected) in [(0, 2, &[1, 2][..]), (2, 2, &[3]), (3, 1, &[]), (9, 9, &[])] {
            let page: Vec<_> = Page { start, count }.cut([1, 2, 3]).collect();
            assert_eq!(page, expected);
        }
    }
}
