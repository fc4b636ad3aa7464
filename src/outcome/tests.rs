use super::*;

#[test]
fn codes_are_distinct_and_lowercase() {
    let mut seen = std::collections::HashSet::new();
    for code in Code::ALL {
        assert!(seen.insert(code.as_str()), "{code:?} repeats a wire form");
        assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()));
        assert_eq!(Code::ALL[code.index()], *code);
    }
}

#[test]
fn what_another_try_or_another_sender_may_mend_is_not_about_the_content() {
    let not: Vec<_> =
        Code::ALL.iter().filter(|code| code.fault() == Fault::Sender && !code.is_about_content()).collect();
    let expected = [
        Code::InvalidBody,
        Code::InvalidParameter,
        Code::ReplyNotOffered,
        Code::Unauthenticated,
        Code::ForbiddenEvent,
        Code::NotFound,
        Code::UnknownEvent,
        Code::MethodNotAllowed,
        Code::BodyTimeout,
        Code::BodyTooLarge,
        Code::BatchTooLong,
        Code::UnsupportedMediaType,
        Code::RateLimited,
        Code::RecordRefused,
    ];
    assert_eq!(not, expected.iter().collect::<Vec<_>>());
    assert!(Code::ALL.iter().all(|code| code.fault() == Fault::Sender || !code.is_about_content()));
}

#[test]
fn a_record_is_settled_once_whatever_happens_to_it() {
    let ledger = Ledger::default();
    let account = ledger.account("a", "core");
    for _ in 0..4 {
        account.receive();
    }
    Tracked::new(&account, None, 0, 10).settle(Delivery::Delivered { partition: 0, offset: 1 });
    Tracked::new(&account, None, 1, 10).settle(Delivery::Failed(Code::DeliveryFailed));
    Tracked::new(&account, None, 2, 10).refused();
    account.reject(Code::BufferFull);
    let held = Tracked::new(&account, None, 3, 10);
    assert!(account.read().holds(), "{:?}", account.read());
    drop(held);
    assert_eq!(account.read().lost, 1);
    assert!(!account.read().holds());
}

#[test]
fn a_record_out_of_the_spool_is_there_until_it_is_settled_for_good() {
    let ledger = Ledger::default();
    let account = ledger.account("a", "core");
    let batch = Arc::new(BatchState::default());
    account.recover();
    let again = || Tracked::from_spool(&account, &batch, 0, 10);
    drop(again());
    again().refused();
    again().settle(Delivery::Spooled);
    assert_eq!((account.read().in_spool, account.read().in_memory), (1, 0));
    let held = again();
    assert!(account.read().holds() && account.read().in_memory == 1, "{:?}", account.read());
    held.settle(Delivery::Delivered { partition: 0, offset: 1 });
    let expected = Balance { recovered: 1, delivered: 1, ..Balance::default() };
    assert_eq!(account.read(), expected);
}

#[test]
fn a_record_that_was_given_up_has_failed_wherever_it_is_kept() {
    let ledger = Ledger::default();
    let account = ledger.account("a", "core");
    let batch = Arc::new(BatchState::default());
    let given_up = |from_spool: bool| {
        let mut tracked = match from_spool {
            true => {
                account.recover();
                Tracked::from_spool(&account, &batch, 0, 10)
            }
            false => {
                account.receive();
                Tracked::new(&account, Some(&batch), 0, 10)
            }
        };
        tracked.give_up(Code::RecordRefused);
        assert!(!tracked.may_be_spooled());
        tracked
    };
    given_up(false).settle(Delivery::Delivered { partition: 0, offset: 1 });
    given_up(true).settle(Delivery::Spooled);
    given_up(false).settle(Delivery::Failed(Code::Unknown));
    drop(given_up(false));
    let kept: Vec<_> = account.kept().collect();
    assert_eq!(kept, [(KeptIn::DeadLetterTopic, 1), (KeptIn::FailedLog, 1), (KeptIn::Nowhere, 2)]);
    assert_eq!(account.failures().collect::<Vec<_>>(), [(Code::RecordRefused, 4)]);
    assert!(batch.take().iter().all(|(_, delivery)| *delivery == Delivery::Failed(Code::RecordRefused)));
    assert!(account.read().holds(), "{:?}", account.read());
    drop(given_up(true));
    assert_eq!((account.read().in_spool, account.read().failed), (1, 4), "what is still in the spool has not failed");
}

#[tokio::test]
async fn a_request_wakes_when_its_last_record_is_settled() {
    let ledger = Ledger::default();
    let account = ledger.account("a", "core");
    let batch = Arc::new(BatchState::default());
    let first = Tracked::new(&account, Some(&batch), 0, 1);
    let second = Tracked::new(&account, Some(&batch), 7, 1);
    second.settle(Delivery::Delivered { partition: 2, offset: 9 });
    first.refused();
    batch.settled().await;
    assert_eq!(batch.take(), vec![(7, Delivery::Delivered { partition: 2, offset: 9 })]);
}

#[test]
fn an_event_type_is_over_its_share_when_more_than_one_event_takes_it() {
    let account = Ledger::default().account("a", "core");
    account.set_share(100);
    let one = Tracked::new(&account, None, 0, 1_000);
    assert!(!account.is_over_share(), "one event always fits");
    let mut two = Tracked::new(&account, None, 1, 10);
    assert!(account.is_over_share());
    assert_eq!((account.in_memory.events(), account.in_memory.bytes()), (2, 1_010));
    two.set_cost_bytes(20);
    assert_eq!((account.in_memory.events(), account.in_memory.bytes()), (2, 1_020));
    one.settle(Delivery::Delivered { partition: 0, offset: 1 });
    assert!(!account.is_over_share());
    two.refused();
    assert_eq!((account.in_memory.events(), account.in_memory.bytes()), (0, 0));
}
