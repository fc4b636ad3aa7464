"""What rdkafka's admin client cannot do: access rules.

allow --brokers B --user writer --topic T --operation WRITE
"""

import argparse

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    allow_command = commands.add_parser("allow", help="allow a user some operations on a topic")
    allow_command.add_argument("--brokers", required=True)
    allow_command.add_argument("--user", required=True)
    allow_command.add_argument("--topic", required=True)
    allow_command.add_argument("--operation", required=True, action="append", choices=AclOperation.__members__)
    allow_command.set_defaults(run=allow)
    args = parser.parse_args()
    args.run(args)


def allow(args):
    rules = [
        AclBinding(
            ResourceType.TOPIC,
            args.topic,
            ResourcePatternType.LITERAL,
            f"User:{args.user}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for operation in args.operation
    ]
    admin = AdminClient({"bootstrap.servers": args.brokers})
    for future in admin.create_acls(rules, request_timeout=30).values():
        future.result()


if __name__ == "__main__":
    main()
