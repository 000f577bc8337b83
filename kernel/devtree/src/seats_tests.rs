use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::guest::Scheduling;
use crate::plan;
use crate::plan::tests::described;

fn config(affinity: &[u64], reservations: &[Option<(u32, u32)>]) -> DomainConfig {
    let mut found = None;
    described(|configs| found = Some(configs[0].clone()));
    let mut config = found.unwrap();
    config.vcpus = affinity.len() as u32;
    config.affinity = affinity
        .iter()
        .map(|&bits| CpuSet::from_bits(bits))
        .collect();
    config.scheduling = vec![Scheduling::default(); affinity.len()];
    for (scheduling, reservation) in config.scheduling.iter_mut().zip(reservations) {
        scheduling.reservation =
            reservation.map(|(period, budget)| Reservation::new(period, budget).unwrap());
    }
    config
}

/// CPU 2 is not up.
fn seats(alone: bool) -> Seats {
    Seats::new([0, 1, 3].into_iter(), alone)
}

#[test]
fn a_vcpu_goes_where_the_fewest_are() {
    let mut seats = seats(false);
    assert_eq!(seats.take(&config(&[1, 1, 0b1010], &[])), Ok(vec![0, 0, 1]));
    assert_eq!(
        seats.take(&config(&[u64::MAX, u64::MAX], &[])),
        Ok(vec![3, 1])
    );
    assert_eq!(seats.take(&config(&[0b1001, 4], &[])), Err(Error::NoCpu));
    // The first of the two was not seated either.
    assert_eq!(seats.take(&config(&[0b1001], &[])), Ok(vec![3]));
}

#[test]
fn real_time_is_promised_once() {
    let mut seats = seats(false);
    let half = Some((10_000, 5_000));
    let three = config(&[u64::MAX; 3], &[half; 3]);
    assert_eq!(seats.take(&three), Ok(vec![0, 1, 3]));
    assert_eq!(seats.promised(1), 500_000);
    let error = seats.take(&three).unwrap_err();
    let Error::NoTime { vcpu: 0, free, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(free, 400_000);
    let problem = plan::problem(&three, &error).to_string();
    assert!(
        problem.contains(
            "viaduct,budget-us: found 5000 of 10000 us for vCPU 0, expected at most 4000 us"
        ),
        "{problem}"
    );
    // Where it may not run, time is no use.
    let pinned = config(&[1, 1], &[Some((1000, 400)), Some((1000, 100))]);
    assert!(matches!(
        seats.take(&pinned),
        Err(Error::NoTime { vcpu: 1, .. })
    ));
    assert_eq!(seats.promised(0), 500_000);
    // Those that share go by their number.
    assert_eq!(seats.take(&config(&[u64::MAX], &[])), Ok(vec![0]));
}

#[test]
fn with_the_null_scheduler_nobody_shares() {
    let mut seats = seats(true);
    let real_time = Some((10_000, 5_000));
    assert_eq!(
        seats.take(&config(&[2, u64::MAX], &[real_time])),
        Ok(vec![1, 0])
    );
    let error = seats.take(&config(&[u64::MAX; 2], &[])).unwrap_err();
    assert_eq!(error, Error::NoFreeCpu { vcpu: 1 });
    let problem = plan::problem(&config(&[1], &[]), &error).to_string();
    assert!(
        problem.contains("cpus: found vCPU 1, and every CPU"),
        "{problem}"
    );
    assert_eq!(seats.take(&config(&[8], &[])), Ok(vec![3]));
}
