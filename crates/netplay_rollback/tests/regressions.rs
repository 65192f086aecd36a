//! Plans that once failed, shrunk, each named after what was wrong.

mod support;

use netplay_simnet::Conditions;
use support::plan::{Fault, Plan, run};
use support::world::{MS, Setup};

fn plan(peers: usize, seed: u64, faults: Vec<(u64, Fault)>) -> Plan {
    Plan { seed, setup: Setup { peers, ..Setup::default() }, faults }
}

#[test]
fn who_dies_and_starts_in_the_same_moment_does_not_hang_the_simulation() {
    run(&plan(3, 1, vec![(500, Fault::Kill { node: 1, back_after: Some(0) })]));
}

#[test]
fn a_shorter_delay_after_a_gap_in_time_counts_every_input_once() {
    let faults =
        vec![(477, Fault::Freeze { node: 2, lasts: 823 }), (340, Fault::Delay { ticks: 0 })];
    let mut plan = plan(4, 131_219_991_354_830, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.delay, plan.setup.change_every) = (0, 2, 3);
    run(&plan);
}

#[test]
fn who_stands_still_while_it_comes_back_plays_in_the_end() {
    let faults = vec![
        (229, Fault::Kill { node: 0, back_after: Some(879) }),
        (1218, Fault::Freeze { node: 0, lasts: 2095 }),
        (261, Fault::Freeze { node: 0, lasts: 2702 }),
    ];
    let mut plan = plan(2, 0, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 9);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.ballast) = (0, 1, 164_937);
    run(&plan);
}

#[test]
fn a_watcher_is_not_told_what_only_its_feeder_knows_and_may_take_along() {
    // Node 0 feeds the spectator, cannot tell node 1 what it does itself, and dies.
    let faults = vec![
        (100, Fault::Watch { delay: 0 }),
        (100, Fault::Freeze { node: 0, lasts: 1039 }),
        (129, Fault::Cut { a: 1, b: 0, lasts: 1288 }),
        (1289, Fault::Kill { node: 0, back_after: None }),
    ];
    let mut plan = plan(2, 0, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (0, 1, 128);
    run(&plan);
}

#[test]
fn three_who_return_shortly_after_each_other_all_play() {
    let faults = vec![
        (1366, Fault::Kill { node: 9, back_after: Some(1667) }),
        (1055, Fault::Kill { node: 1, back_after: Some(187) }),
        (2318, Fault::Freeze { node: 0, lasts: 10 }),
        (412, Fault::Kill { node: 8, back_after: Some(0) }),
    ];
    let mut plan = plan(16, 938_192_364_950_672_973, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 85);
    (plan.setup.prediction, plan.setup.delay, plan.setup.change_every) = (0, 1, 1);
    plan.setup.rate = 30;
    run(&plan);
}

#[test]
fn who_returns_while_its_feeder_dies_has_the_same_last_inputs_of_it() {
    let faults = vec![
        (1318, Fault::Kill { node: 1, back_after: Some(1236) }),
        (1723, Fault::Kill { node: 3, back_after: Some(357) }),
    ];
    let mut plan = plan(4, 438_928_933_293_242_575, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (0, 1, 128);
    run(&plan);
}

#[test]
fn who_returned_and_lost_its_feeder_gives_the_match_to_the_next() {
    let faults = vec![
        (100, Fault::Kill { node: 1, back_after: Some(1237) }),
        (1777, Fault::Kill { node: 0, back_after: Some(0) }),
    ];
    let mut plan = plan(2, 367_814, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 13);
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn who_is_left_alone_goes_on_when_all_others_are_gone() {
    let faults = vec![
        (107, Fault::Kill { node: 3, back_after: None }),
        (100, Fault::Kill { node: 2, back_after: Some(0) }),
        (100, Fault::Kill { node: 0, back_after: None }),
        (2268, Fault::Leave { node: 1 }),
    ];
    let mut plan = plan(4, 13_884_906_910_768, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 6);
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn what_was_final_is_not_run_again_after_three_deaths() {
    let faults = vec![
        (100, Fault::Kill { node: 0, back_after: None }),
        (167, Fault::Freeze { node: 2, lasts: 1378 }),
        (1421, Fault::Kill { node: 2, back_after: None }),
        (100, Fault::Kill { node: 1, back_after: Some(0) }),
    ];
    let mut plan = plan(4, 20_457_610_678_545_928, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 44);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (6, 1, 30);
    run(&plan);
}

#[test]
fn a_watcher_is_not_told_what_who_just_joined_does_not_know() {
    let faults = vec![
        (893, Fault::Watch { delay: 0 }),
        (984, Fault::Kill { node: 0, back_after: Some(2906) }),
        (3257, Fault::Freeze { node: 1, lasts: 1939 }),
        (100, Fault::Kill { node: 1, back_after: None }),
    ];
    let mut plan = plan(2, 0, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every, plan.setup.ballast) = (0, 1, 39_950);
    run(&plan);
}

#[test]
fn the_rest_of_a_snapshot_that_was_asked_for_again_is_no_fault() {
    let faults = vec![
        (874, Fault::Freeze { node: 0, lasts: 1264 }),
        (781, Fault::Kill { node: 12, back_after: Some(673) }),
        (673, Fault::Kill { node: 5, back_after: None }),
        (1150, Fault::Freeze { node: 0, lasts: 1313 }),
        (1212, Fault::Freeze { node: 2, lasts: 1794 }),
    ];
    let mut plan = plan(4, 3_967_172_143_878_680_104, faults);
    plan.setup.conditions = Conditions::perfect().with_loss(0.043_299_693_858_846_175);
    (plan.setup.prediction, plan.setup.delay, plan.setup.change_every) = (0, 3, 1);
    run(&plan);
}

#[test]
fn what_a_feed_has_told_of_who_was_absent_is_known_when_it_joins() {
    let faults = vec![
        (100, Fault::Kill { node: 1, back_after: Some(234) }),
        (490, Fault::Kill { node: 3, back_after: Some(0) }),
    ];
    let mut plan = plan(4, 0, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn two_who_come_back_while_the_last_others_leave_play() {
    let faults = vec![
        (100, Fault::Kill { node: 0, back_after: Some(3633) }),
        (326, Fault::Kill { node: 1, back_after: Some(3091) }),
        (1612, Fault::Leave { node: 2 }),
        (1732, Fault::Leave { node: 11 }),
    ];
    let mut plan = plan(4, 59, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn who_was_fed_what_two_deaths_have_undone_begins_anew() {
    let faults = vec![
        (1853, Fault::Kill { node: 0, back_after: Some(630) }),
        (894, Fault::Kill { node: 3, back_after: Some(53) }),
        (100, Fault::Kill { node: 6, back_after: None }),
        (100, Fault::Kill { node: 9, back_after: None }),
    ];
    let mut plan = plan(4, 22_833_134_042_630_059, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every) = (0, 5);
    run(&plan);
}

#[test]
fn who_watches_asks_again_after_seconds_at_any_rate() {
    let faults = vec![
        (1808, Fault::Kill { node: 0, back_after: None }),
        (100, Fault::Kill { node: 2, back_after: Some(0) }),
        (100, Fault::Watch { delay: 0 }),
        (100, Fault::Kill { node: 3, back_after: Some(0) }),
    ];
    let mut plan = plan(4, 0, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 9);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (0, 1, 30);
    run(&plan);
}

#[test]
fn who_stands_still_while_it_comes_back_at_a_low_rate_plays_in_the_end() {
    let faults = vec![
        (700, Fault::Freeze { node: 0, lasts: 10 }),
        (652, Fault::Kill { node: 4, back_after: Some(547) }),
        (957, Fault::Freeze { node: 0, lasts: 924 }),
        (1179, Fault::Kill { node: 3, back_after: Some(45) }),
    ];
    let mut plan = plan(4, 128_146_717_010, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 89);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (0, 1, 30);
    run(&plan);
}

#[test]
fn who_dies_before_it_plays_is_agreed_to_have_been_absent() {
    let faults = vec![
        (1870, Fault::Kill { node: 0, back_after: Some(814) }),
        (890, Fault::Kill { node: 3, back_after: Some(1491) }),
        (2206, Fault::Leave { node: 3 }),
    ];
    let mut plan = plan(4, 1_834_072_464_167_892_242, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 25);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.ballast) = (0, 1, 187_424);
    run(&plan);
}

#[test]
fn who_comes_back_is_not_taken_for_its_earlier_process_by_a_later_decision() {
    let faults = vec![
        (100, Fault::Kill { node: 1, back_after: None }),
        (1340, Fault::Kill { node: 12, back_after: Some(899) }),
    ];
    let mut plan = plan(4, 72_886_896_619_365_335, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 60);
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn a_checksum_of_one_who_died_with_another_is_not_held_against_the_others() {
    let faults = vec![
        (1284, Fault::Kill { node: 9, back_after: None }),
        (2201, Fault::Cut { a: 10, b: 3, lasts: 233 }),
        (1236, Fault::Kill { node: 5, back_after: None }),
        (314, Fault::Kill { node: 2, back_after: None }),
        (131, Fault::Kill { node: 0, back_after: None }),
    ];
    let mut plan = plan(4, 10_647_703_167_106_249_456, faults);
    let jitter = netplay_simnet::Jitter::Independent { max: MS };
    plan.setup.conditions = Conditions {
        jitter,
        ..Conditions::perfect().with_delay(MS * 99).with_loss(0.161_348_460_244_458_34)
    };
    (plan.setup.prediction, plan.setup.delay, plan.setup.change_every) = (1, 3, 1);
    run(&plan);
}

#[test]
fn who_watches_does_not_take_a_returning_player_for_its_earlier_process() {
    let faults = vec![
        (100, Fault::Delay { ticks: 5 }),
        (100, Fault::Kill { node: 1, back_after: Some(1935) }),
        (1828, Fault::Kill { node: 10, back_after: None }),
        (2155, Fault::Kill { node: 4, back_after: Some(591) }),
    ];
    let mut plan = plan(4, 3_515_789_838_023_090_953, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 82);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (0, 1, 30);
    run(&plan);
}

#[test]
fn who_does_not_play_says_so_to_those_who_ask_it_for_the_match() {
    let faults = vec![
        (1411, Fault::Kill { node: 13, back_after: Some(2454) }),
        (1380, Fault::Kill { node: 12, back_after: Some(1592) }),
        (1500, Fault::Kill { node: 14, back_after: Some(542) }),
    ];
    let mut plan = plan(4, 759_610_500_647_801_453, faults);
    plan.setup.conditions = Conditions::perfect();
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn of_two_who_come_back_one_after_the_other_the_first_knows_when_it_began() {
    let faults = vec![
        (1730, Fault::Kill { node: 13, back_after: Some(932) }),
        (113, Fault::Leave { node: 3 }),
        (1064, Fault::Kill { node: 12, back_after: Some(1271) }),
        (2059, Fault::Kill { node: 2, back_after: None }),
    ];
    let mut plan = plan(4, 877, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 41);
    (plan.setup.prediction, plan.setup.change_every, plan.setup.rate) = (0, 3, 30);
    plan.setup.input_max = 4;
    run(&plan);
}

#[test]
fn two_who_come_at_once_ask_who_plays_and_not_only_each_other() {
    let faults = vec![(100, Fault::Come { seat: 0 }), (100, Fault::Come { seat: 1 })];
    let mut plan = plan(3, 10_223_203_250_762_759_228, faults);
    plan.setup.conditions = Conditions::perfect().with_delay(MS * 74);
    plan.setup.absent = 2;
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}

#[test]
fn who_comes_back_asks_who_came_since() {
    let faults =
        vec![(100, Fault::Come { seat: 0 }), (503, Fault::Kill { node: 0, back_after: Some(0) })];
    let mut plan = plan(2, 1, faults);
    plan.setup.conditions = Conditions::perfect();
    plan.setup.absent = 1;
    (plan.setup.prediction, plan.setup.change_every) = (0, 1);
    run(&plan);
}
