"""Tries every operation of Kafka as each of some users, with clients that share no code with ours: what they may do, and how the rest
is refused.

In: JSON on stdin: brokers; users, a password each; one topic that has a record, another topic, groups. Out: one JSON object: user,
operation, `ok` or the name of Kafka's error. Never: an operation that only some of the users try; one that was refused and is tried again.

Operations that would change what others need come last, and all of them are ones that no user of a service is granted.
"""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from kafka import admin as python
from kafka.errors import KafkaError

SECONDS = 30


def main():
    asked = json.load(sys.stdin)
    with ThreadPoolExecutor(len(asked["users"])) as pool:
        tried = {user: pool.submit(Tries(asked, user).all) for user in asked["users"]}
        json.dump({user: future.result() for user, future in tried.items()}, sys.stdout)


def outcome(operation):
    """`ok`, or the name of the error that it was refused with."""
    try:
        operation()
    except KafkaException as error:
        return error.args[0].name()
    except KafkaError as error:
        words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
        return "_".join(words).upper()
    return "ok"


def done(futures):
    """Waits for what an admin client was asked for; the first error is raised."""
    for future in futures.values() if isinstance(futures, dict) else [futures]:
        answer = future.result(SECONDS)
        for part in answer.values() if isinstance(answer, dict) else [answer]:
            if isinstance(part, KafkaException):
                raise part
            raise_error(getattr(part, "error", None))
        for partition in getattr(answer, "topic_partitions", None) or []:
            raise_error(partition.error)


def raise_error(error):
    if error is not None:
        raise KafkaException(error)


class Tries:
    def __init__(self, asked, user):
        self.topic, self.other = asked["topic"], asked["other_topic"]
        self.group, self.other_group = asked["group"], asked["other_group"]
        self.user = user
        self.settings = {
            "bootstrap.servers": asked["brokers"],
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": asked["users"][user],
            "log_level": 0,
        }
        self.admin = AdminClient(self.settings)
        self.broker = str(min(self.admin.list_topics(timeout=SECONDS).brokers))
        # Confluent's takes a refusal of these for an empty answer, or ends the process.
        self.other_admin = python.KafkaAdminClient(
            bootstrap_servers=asked["brokers"],
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username=user,
            sasl_plain_password=asked["users"][user],
        )

    def all(self):
        names = [name for name in vars(Tries) if name.startswith("try_")]
        return {name.removeprefix("try_"): outcome(getattr(self, name)) for name in names}

    # What grants are for.

    def try_produce(self):
        self.produce(self.topic)

    def try_produce_idempotent(self):
        self.produce(self.topic, {"enable.idempotence": True})

    def try_produce_to_other_topic(self):
        self.produce(self.other)

    def try_produce_in_a_transaction(self):
        Producer({**self.settings, "transactional.id": f"{self.user}-tx"}).init_transactions(SECONDS)

    def try_consume(self):
        self.consume(self.topic, self.group)

    def try_consume_in_other_group(self):
        self.consume(self.topic, self.other_group)

    def try_consume_other_topic(self):
        self.consume(self.other, self.group)

    def try_assign(self):
        self.assign(self.topic)

    def try_describe_topic(self):
        done(self.admin.describe_topics(TopicCollection([self.topic]), request_timeout=SECONDS))

    def try_describe_other_topic(self):
        done(self.admin.describe_topics(TopicCollection([self.other]), request_timeout=SECONDS))

    def try_list_offsets(self):
        done(self.admin.list_offsets({TopicPartition(self.topic, 0): OffsetSpec.latest()}, request_timeout=SECONDS))

    def try_describe_configs(self):
        self.configs(ConfigResource.Type.TOPIC, self.topic)

    def try_describe_configs_of_other_topic(self):
        self.configs(ConfigResource.Type.TOPIC, self.other)

    def try_describe_configs_of_a_broker(self):
        self.configs(ConfigResource.Type.BROKER, self.broker)

    def try_describe_group(self):
        done(self.admin.describe_consumer_groups([self.group], request_timeout=SECONDS))

    def try_describe_other_group(self):
        done(self.admin.describe_consumer_groups([self.other_group], request_timeout=SECONDS))

    def try_describe_acls(self):
        every = python.ResourcePatternFilter(python.ResourceType.ANY, None, python.ACLResourcePatternType.ANY)
        self.other_admin.describe_acls(
            python.ACLFilter(None, None, python.ACLOperation.ANY, python.ACLPermissionType.ANY, every)
        )

    def try_describe_users(self):
        self.other_admin.describe_user_scram_credentials([self.user])

    # What nobody is granted.

    def try_create_topic(self):
        done(self.admin.create_topics([NewTopic(f"{self.topic}.more", 1, 1)], request_timeout=SECONDS))

    def try_create_partitions(self):
        done(self.admin.create_partitions([NewPartitions(self.topic, 48)], request_timeout=SECONDS))

    def try_alter_configs(self):
        change = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.topic, incremental_configs=[change])
        done(self.admin.incremental_alter_configs([resource], request_timeout=SECONDS))

    def try_create_acl(self):
        done(self.admin.create_acls([self.acl(AclBinding, "*")], request_timeout=SECONDS))

    def try_delete_acls(self):
        done(self.admin.delete_acls([self.acl(AclBindingFilter, None)], request_timeout=SECONDS))

    def try_change_password(self):
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(self.user, info, b"another")
        done(self.admin.alter_user_scram_credentials([change], request_timeout=SECONDS))

    def try_alter_offsets_of_other_group(self):
        offsets = ConsumerGroupTopicPartitions(self.other_group, [TopicPartition(self.other, 0, 0)])
        done(self.admin.alter_consumer_group_offsets([offsets], request_timeout=SECONDS))

    def try_delete_group(self):
        done(self.admin.delete_consumer_groups([self.group], request_timeout=SECONDS))

    def try_delete_records(self):
        done(self.admin.delete_records([TopicPartition(self.topic, 0, -1)], request_timeout=SECONDS))

    def try_delete_topic(self):
        done(self.admin.delete_topics([self.topic], request_timeout=SECONDS))

    # How.

    def produce(self, topic, more={}):
        ended = []
        producer = Producer({**self.settings, "message.timeout.ms": 1000 * SECONDS, **more})
        try:
            producer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: ended.append(error))
            producer.flush(2 * SECONDS)
        except SystemError as error:
            # A producer that may not have an id fails as a whole.
            raise error.__cause__ from None
        raise_error(ended[0])

    def consume(self, topic, group):
        consumer = self.consumer(group)
        try:
            consumer.subscribe([topic])
            self.one_of(consumer)
            consumer.commit(asynchronous=False)
        finally:
            consumer.close()

    def assign(self, topic):
        consumer = self.consumer(self.group)
        try:
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(3)])
            self.one_of(consumer)
        finally:
            consumer.close()

    def consumer(self, group):
        return Consumer({**self.settings, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})

    def one_of(self, consumer):
        message = consumer.poll(SECONDS)
        if message is None:
            sys.exit(f"{self.user} gets neither a record nor an error")
        raise_error(message.error())

    def configs(self, kind, name):
        done(self.admin.describe_configs([ConfigResource(kind, name)], request_timeout=SECONDS))

    def acl(self, form, host):
        """A rule that gives this user the other topic, or all such rules."""
        where = (ResourceType.TOPIC, self.other, ResourcePatternType.LITERAL)
        return form(*where, f"User:{self.user}", host, AclOperation.READ, AclPermissionType.ALLOW)


main()
