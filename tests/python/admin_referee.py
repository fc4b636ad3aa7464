"""What other clients see of a cluster, and create on it: the referees of our own administration client.

Takes a JSON list of questions and prints the list of answers. A question has `do`, the function below, and its
arguments; `client` is `confluent` (librdkafka) or `python` (kafka-python), neither of which shares a line with ours. Kinds are
always names, never numbers.

--brokers B --ask '[{"client": "python", "do": "controller"}]'
"""

import argparse
import json
import sys

from confluent_kafka import admin as confluent
from kafka import TopicPartition
from kafka import admin as python
from kafka.structs import OffsetAndMetadata


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--ask", required=True, type=json.loads)
    args = parser.parse_args()
    open_client = {
        "confluent": lambda: confluent.AdminClient({"bootstrap.servers": args.brokers}),
        "python": lambda: python.KafkaAdminClient(bootstrap_servers=args.brokers),
    }
    clients = {}
    answers = []
    for question in args.ask:
        name = question.pop("client")
        if name not in clients:
            clients[name] = open_client[name]()
        do = globals()[f"{name}_{question.pop('do')}"]
        answers.append(do(clients[name], **question))
    if "python" in clients:
        clients["python"].close()
    json.dump(answers, sys.stdout)


def confluent_acls(client, principal):
    """The access rules of a principal: kind, pattern, name, host, operation, permission."""
    every = confluent.AclBindingFilter(
        confluent.ResourceType.ANY,
        None,
        confluent.ResourcePatternType.ANY,
        principal,
        None,
        confluent.AclOperation.ANY,
        confluent.AclPermissionType.ANY,
    )
    rules = client.describe_acls(every, request_timeout=30).result()
    return sorted(
        # librdkafka calls the cluster a broker.
        [
            rule.restype.name.replace("BROKER", "CLUSTER"),
            rule.resource_pattern_type.name,
            rule.name,
            rule.host,
            rule.operation.name,
            rule.permission_type.name,
        ]
        for rule in rules
    )


def confluent_create_acls(client, principal, rules):
    bindings = [
        confluent.AclBinding(
            confluent.ResourceType[kind.replace("CLUSTER", "BROKER")],
            name,
            confluent.ResourcePatternType[pattern],
            principal,
            host,
            confluent.AclOperation[operation],
            confluent.AclPermissionType[permission],
        )
        for kind, pattern, name, host, operation, permission in rules
    ]
    for future in client.create_acls(bindings, request_timeout=30).values():
        future.result()


def python_acls(client, principal):
    every = python.ACLFilter(
        principal,
        None,
        python.ACLOperation.ANY,
        python.ACLPermissionType.ANY,
        python.ResourcePatternFilter(python.ResourceType.ANY, None, python.ACLResourcePatternType.ANY),
    )
    rules, _ = client.describe_acls(every)
    return sorted(
        [
            rule.resource_pattern.resource_type.name,
            rule.resource_pattern.pattern_type.name,
            rule.resource_pattern.resource_name,
            rule.host,
            rule.operation.name,
            rule.permission_type.name,
        ]
        for rule in rules
    )


def python_create_acls(client, principal, rules):
    acls = [
        python.ACL(
            principal,
            host,
            python.ACLOperation[operation],
            python.ACLPermissionType[permission],
            python.ResourcePattern(python.ResourceType[kind], name, python.ACLResourcePatternType[pattern]),
        )
        for kind, pattern, name, host, operation, permission in rules
    ]
    failed = client.create_acls(acls)["failed"]
    assert not failed, failed


def confluent_configs(client, kind, name):
    """Configs by key: value and where it comes from."""
    resource = confluent.ConfigResource(confluent.ConfigResource.Type[kind], name)
    [future] = client.describe_configs([resource], request_timeout=30).values()
    return {
        key: [entry.value, confluent.ConfigSource(entry.source).name, entry.is_sensitive]
        for key, entry in future.result().items()
    }


def confluent_alter_config(client, kind, name, key, value):
    change = confluent.ConfigEntry(
        key,
        value or "",
        incremental_operation=confluent.AlterConfigOpType.SET if value else confluent.AlterConfigOpType.DELETE,
    )
    resource = confluent.ConfigResource(confluent.ConfigResource.Type[kind], name, incremental_configs=[change])
    [future] = client.incremental_alter_configs([resource], request_timeout=30).values()
    future.result()


def python_configs(client, kind, name):
    resource = python.ConfigResource(python.ConfigResourceType[kind], name)
    described = client.describe_configs([resource], config_filter="all")
    return described[kind.lower()][name]


def confluent_users(client, user):
    """SCRAM credentials of a user: mechanism and iterations."""
    described = client.describe_user_scram_credentials([user], request_timeout=30)
    infos = described[user].result().scram_credential_infos
    return {info.mechanism.name: info.iterations for info in infos}


def confluent_upsert_user(client, user, mechanism, iterations, password):
    info = confluent.ScramCredentialInfo(confluent.ScramMechanism[mechanism], iterations)
    change = confluent.UserScramCredentialUpsertion(user, info, password.encode())
    for future in client.alter_user_scram_credentials([change], request_timeout=30).values():
        future.result()


def python_users(client, user):
    infos = client.describe_user_scram_credentials([user])[user]["credential_infos"]
    return {info["mechanism"].name: info["iterations"] for info in infos}


def python_log_dirs(client, topic):
    """By broker and directory: bytes in all, and those of each replica of a topic."""
    return {
        broker["broker"]: {
            dir["log_dir"]: {
                "total": dir["total_bytes"],
                "replicas": {
                    str(partition["partition_index"]): partition["partition_size"]
                    for topic_in_dir in dir["topics"]
                    if topic_in_dir["name"] == topic
                    for partition in topic_in_dir["partitions"]
                },
            }
            for dir in broker["log_dirs"]
        }
        for broker in client.describe_log_dirs()
    }


def python_commit(client, group, topic, offsets):
    """Commits offsets for a group without members."""
    client.alter_group_offsets(
        group,
        {
            TopicPartition(topic, int(partition)): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        },
    )


def python_controller(client):
    """The node that is the active controller."""
    return client.describe_metadata_quorum()["topics"][0]["partitions"][0]["leader_id"]


if __name__ == "__main__":
    main()
