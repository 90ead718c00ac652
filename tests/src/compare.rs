//! Comparing what was served with what was published.

use crate::flv::{AccessUnit, SCRIPT, Tag, VIDEO};
use crate::times::check_times;

/// The part of a published stream that must have been served. Each ends with the stream's last access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Every video access unit; audio only from the first of them on, all of it when there is no video.
    Whole,
    /// Everything from one of the video keyframes (from any access unit when there is no video).
    FromKeyframe,
}

/// Returns the access units of `tags`, in order.
#[must_use]
pub fn access_units(tags: &[Tag]) -> Vec<AccessUnit> {
    tags.iter().filter_map(Tag::access_unit).collect()
}

/// Compares `served` with `published`: the same access units in the same order up to the last one, byte for byte,
/// with timestamps that differ by one constant for all tracks. Returns the number of compared access units.
///
/// # Errors
/// A description of the first difference.
pub fn compare(published: &[Tag], served: &[Tag], coverage: Coverage) -> Result<usize, String> {
    compare_units(&access_units(published), &access_units(served), coverage)
}

/// As [`compare`], for access units of any format.
///
/// # Errors
/// As for [`compare`].
pub fn compare_units(
    published: &[AccessUnit],
    served: &[AccessUnit],
    coverage: Coverage,
) -> Result<usize, String> {
    let Some(first) = served.first() else { return Err("nothing was served".into()) };
    if served.len() > published.len() {
        return Err(format!("{} access units served, {} published", served.len(), published.len()));
    }
    // Equal frames (silence) may repeat, so the end decides where the served part starts.
    let start = published.len() - served.len();
    let offset = first.dts - published[start].dts;
    for (index, (sent, got)) in published[start..].iter().zip(served).enumerate() {
        let expected = AccessUnit { dts: sent.dts + offset, ..sent.clone() };
        if *got != expected {
            let number = start + index;
            return Err(format!(
                "access unit {number} differs:\n  published {expected:?}\n  served    {got:?}"
            ));
        }
    }
    let first_video = published.iter().position(|unit| unit.kind == VIDEO);
    match (coverage, first_video) {
        (Coverage::Whole, _) if start > first_video.unwrap_or(0) => {
            Err(format!("the first {start} access units are missing"))
        }
        (Coverage::FromKeyframe, Some(_)) if !starts_at_keyframe(served) => {
            Err("the first video access unit served is not a keyframe".into())
        }
        _ => Ok(served.len()),
    }
}

fn starts_at_keyframe(units: &[AccessUnit]) -> bool {
    units.iter().find(|unit| unit.kind == VIDEO).is_some_and(|unit| unit.keyframe)
}

/// Checks [`check_start`] and [`check_times`].
///
/// # Errors
/// A description of the first fault.
pub fn check_order(tags: &[Tag]) -> Result<(), String> {
    check_start(tags)?;
    check_times(&access_units(tags))
}

/// Checks the start that every player needs: metadata first, and a keyframe as the first picture.
///
/// # Errors
/// A description of the first fault.
pub fn check_start(tags: &[Tag]) -> Result<(), String> {
    if tags.first().is_none_or(|tag| tag.kind != SCRIPT) {
        return Err("the first tag is not metadata".into());
    }
    if access_units(tags).iter().any(|unit| unit.kind == VIDEO) && !starts_at_keyframe(&access_units(tags)) {
        return Err("the first video access unit is not a keyframe".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::AUDIO;

    /// Video at 0, 40, 80.. with a keyframe each fourth, audio between.
    fn stream() -> Vec<Tag> {
        let video = |n: u8| Tag {
            kind: VIDEO,
            timestamp: u32::from(n) * 40,
            payload: vec![if n.is_multiple_of(4) { 0x17 } else { 0x27 }, 1, 0, 0, 0, n],
        };
        let audio = |n: u8| Tag { kind: AUDIO, timestamp: u32::from(n) * 40 + 20, payload: vec![0xaf, 1, n] };
        (0..12).flat_map(|n| [video(n), audio(n)]).collect()
    }

    #[test]
    fn accepts_a_constant_offset_and_a_late_join() {
        let shifted: Vec<Tag> =
            stream().into_iter().map(|tag| Tag { timestamp: tag.timestamp + 1000, ..tag }).collect();
        assert_eq!(compare(&stream(), &shifted, Coverage::Whole), Ok(24));
        assert_eq!(compare(&stream(), &shifted[8..], Coverage::FromKeyframe), Ok(16));
        compare(&stream(), &shifted[8..], Coverage::Whole).unwrap_err();
        compare(&stream(), &shifted[10..], Coverage::FromKeyframe).unwrap_err();
    }

    #[test]
    fn detects_each_kind_of_damage() {
        type Damage = fn(&mut Vec<Tag>);
        let damage: [(&str, Damage); 7] = [
            ("dropped", |tags| drop(tags.remove(9))),
            ("reordered", |tags| tags.swap(9, 11)),
            ("repeated", |tags| tags.insert(9, tags[9].clone())),
            ("changed", |tags| tags[9].payload[2] ^= 1),
            ("late", |tags| tags[9].timestamp += 1),
            ("composition", |tags| tags[10].payload[4] = 1),
            ("cut", |tags| drop(tags.pop())),
        ];
        for (name, damage_it) in damage {
            let mut served = stream();
            damage_it(&mut served);
            assert!(compare(&stream(), &served, Coverage::FromKeyframe).is_err(), "{name} goes unnoticed");
        }
    }

    #[test]
    fn order_requires_metadata_a_keyframe_and_ascending_times() {
        let script = Tag { kind: SCRIPT, timestamp: 0, payload: vec![] };
        let mut tags = stream();
        check_order(&tags).unwrap_err();
        tags.insert(0, script.clone());
        check_order(&tags).unwrap();
        check_order(&[&[script], &stream()[2..]].concat()).unwrap_err();
        tags[6].timestamp = 0;
        check_order(&tags).unwrap_err();
    }
}
