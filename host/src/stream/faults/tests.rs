use remuxd_plugin_api::{Codec, Format, FormatInfo, RemuxError, Remuxer, Setup, Sink, Tag, Transport};

use super::*;
use crate::module::{Terms, linked};

const FAULT: ModuleFault = ModuleFault::Poisoned;
const MAX_FAULTS: u32 = 5;

struct Null;

impl Format for Null {
    type Remuxer = Null;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "null",
            version: "1",
            extensions: &["null"],
            transport: Transport::HTTP,
            content_type: "a/b",
            video_codecs: &[Codec::H264],
            audio_codecs: &[],
            options: &[],
        }
    }

    fn remuxer(_: &Setup) -> Result<Null, RemuxError> {
        Ok(Null)
    }
}

impl Remuxer for Null {
    fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(())
    }
}

fn module(generation: u64) -> Arc<Module> {
    linked::<Null>(&Terms { generation, max_output: 0, max_faults: MAX_FAULTS, unload: false }).unwrap()
}

/// Generations 1 and 2, of which 1 is the one before.
fn generations() -> [Arc<Module>; 2] {
    let [before, suspect] = [module(1), module(2)];
    suspect.set_fallback(Some(before.clone()));
    [before, suspect]
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn pauses_grow_and_end_with_a_closed_mount() {
    let (record, module, now) = (FaultRecord::default(), module(1), Instant::now());
    let pauses = [0, 0, 100, 200, 400].map(Duration::from_millis);
    for pause in pauses {
        assert_eq!(record.on_fault(&module, &FAULT, 9, now), Consequence::Restart);
        assert!(record.may_start(now + pause), "{pause:?}");
        assert!(pause.is_zero() || !record.may_start(now + pause - Duration::from_millis(1)), "{pause:?}");
    }
    assert_eq!(record.closed_for(now), None);
    assert_eq!(record.on_fault(&module, &FAULT, 9, now), Consequence::Close);
    assert_eq!(record.closed_for(now), Some(FIRST_CLOSED));
}

#[test]
fn a_mount_that_was_closed_gets_one_chance_at_a_time_for_a_minute() {
    let (record, module, mut now) = (FaultRecord::default(), module(1), Instant::now());
    for _ in 0..MAX_FAULTS {
        record.on_fault(&module, &FAULT, 9, now);
    }
    for closed_for in [5, 10, 20, 40, 80, 160, 320, 320] {
        assert_eq!(record.on_fault(&module, &FAULT, 9, now), Consequence::Close);
        // That of another mount of the same stream.
        assert_eq!(record.on_fault(&module, &FAULT, 9, now), Consequence::Close);
        assert_eq!(record.closed_for(now), Some(seconds(closed_for)));
        now += seconds(closed_for);
        assert_eq!(record.closed_for(now), None);
        now += seconds(59);
    }
    now += seconds(2);
    assert_eq!(record.on_fault(&module, &FAULT, 9, now), Consequence::Restart);
}

#[test]
fn faults_are_forgotten_after_a_minute() {
    let (record, module, now) = (FaultRecord::default(), module(1), Instant::now());
    for fault in 0..20 {
        let now = now + seconds(13) * fault;
        assert_eq!(record.on_fault(&module, &FAULT, 9, now), Consequence::Restart, "{fault}");
    }
}

#[test]
fn a_fault_of_another_remuxer_of_the_process_has_no_consequence() {
    let (record, module, now) = (FaultRecord::default(), module(1), Instant::now());
    for _ in 0..20 {
        assert_eq!(record.on_fault(&module, &ModuleFault::Bystander, 9, now), Consequence::Restart);
    }
    assert!(record.may_start(now));
}

#[test]
fn a_generation_that_failed_does_not_come_back_for_one_that_is_switched_off() {
    let ([before, suspect], newest, record) = (generations(), module(3), FaultRecord::default());
    newest.set_fallback(Some(suspect.clone()));
    record.on_fault(&suspect, &FAULT, 9, Instant::now());
    ["a", "b", "c"].into_iter().for_each(|stream| newest.on_worse(stream));
    for intended in [&newest, &suspect, &before] {
        assert!(Arc::ptr_eq(&record.choose(intended), &before), "{}", intended.generation());
    }
}

#[test]
fn a_stream_on_which_a_generation_fails_gets_the_one_before_and_keeps_it_if_it_works() {
    let ([before, suspect], now) = (generations(), Instant::now());
    for stream in ["a", "b", "c"] {
        let record = FaultRecord::default();
        assert!(Arc::ptr_eq(&record.choose(&suspect), &suspect));
        assert_eq!(record.on_fault(&suspect, &FAULT, 600, now), Consequence::Restart);
        for module in [&suspect, &before] {
            assert!(Arc::ptr_eq(&record.choose(module), &before));
        }
        record.on_fed(&before, PROOF, &stream);
        record.on_fed(&suspect, 9 * PROOF, &stream);
        assert!(!suspect.is_off(), "the other one got more tags before it failed");
        // Another mount of this stream.
        record.on_fault(&suspect, &FAULT, 0, now);
        record.on_fed(&before, 3 * PROOF, &stream);
        assert!(Arc::ptr_eq(&record.choose(&suspect), &before));
        assert_eq!(suspect.is_off(), stream == "c", "one stream proves nothing");
    }
    assert!(Arc::ptr_eq(&FaultRecord::default().choose(&suspect), &before), "everywhere");
}

#[test]
fn data_that_break_both_generations_roll_nothing_back() {
    let ([before, suspect], now) = (generations(), Instant::now());
    for stream in ["a", "b", "c", "d"] {
        let record = FaultRecord::default();
        record.on_fault(&suspect, &FAULT, 20, now);
        record.on_fault(&before, &FAULT, 20, now);
        for module in [&suspect, &before] {
            assert!(Arc::ptr_eq(&record.choose(module), &suspect));
        }
        record.on_fed(&before, 9 * PROOF, &stream);
        assert!(Arc::ptr_eq(&record.choose(&suspect), &suspect));
        // Faults count from the one that ended the trial.
        let consequences = [0; MAX_FAULTS as usize].map(|_| record.on_fault(&suspect, &FAULT, 20, now));
        assert_eq!(consequences.last(), Some(&Consequence::Close));
        assert!(!consequences[..4].contains(&Consequence::Close));
    }
    assert!(!suspect.is_off());
}

#[test]
fn a_generation_that_cannot_take_over_ends_the_trial() {
    let ([_before, suspect], record) = (generations(), FaultRecord::default());
    record.on_fault(&suspect, &FAULT, 20, Instant::now());
    record.on_no_fallback();
    assert!(Arc::ptr_eq(&record.choose(&suspect), &suspect));
}

#[test]
fn another_reload_ends_the_trial() {
    let ([before, suspect], record, now) = (generations(), FaultRecord::default(), Instant::now());
    record.on_fault(&suspect, &FAULT, 20, now);
    let next = module(3);
    next.set_fallback(Some(suspect.clone()));
    suspect.set_fallback(None);
    assert!(Arc::ptr_eq(&record.choose(&next), &next));
    drop(before);
    record.on_fault(&next, &FAULT, 20, now);
    assert!(Arc::ptr_eq(&record.choose(&next), &suspect));
}

#[test]
fn each_variant_has_its_own_record_and_their_number_is_bounded() {
    let faults = Faults::default();
    let recipe = |name: &'static str| {
        let module = module(1);
        let recipe = Recipe::new(module, &[], std::iter::empty()).unwrap();
        ((recipe.module().name().to_owned() + name, recipe.options().clone()), recipe)
    };
    let (_, own) = recipe("");
    assert_eq!(faults.closed_for(&own, Instant::now()), None);
    assert!(faults.records.lock().is_empty(), "a request alone leaves no record");
    let record = faults.record(&own);
    assert!(Arc::ptr_eq(&record, &faults.record(&own)));
    for number in 0..MAX_RECORDS {
        let (mut variant, _) = recipe("x");
        variant.0 += &number.to_string();
        faults.records.lock().push_back((variant, Arc::default()));
    }
    faults.records.lock().pop_front();
    assert!(!Arc::ptr_eq(&record, &faults.record(&own)), "the oldest went");
    assert_eq!(faults.records.lock().len(), MAX_RECORDS);
}
