"""What rdkafka's admin client cannot do: access rules.

allow --brokers B --user writer --topic T --operation WRITE
revoke --brokers B --user writer --topic T --operation WRITE
password --brokers B --user writer --password P
"""

import argparse

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run, what in [
        ("allow", allow, "allow a user some operations on a topic"),
        ("revoke", revoke, "take that back"),
    ]:
        command = commands.add_parser(name, help=what)
        command.add_argument("--brokers", required=True)
        command.add_argument("--user", required=True)
        command.add_argument("--topic", required=True)
        command.add_argument("--operation", required=True, action="append", choices=AclOperation.__members__)
        command.set_defaults(run=run)
    command = commands.add_parser("password", help="set a user's SCRAM-SHA-512 password")
    command.add_argument("--brokers", required=True)
    command.add_argument("--user", required=True)
    command.add_argument("--password", required=True)
    command.set_defaults(run=password)
    args = parser.parse_args()
    args.run(args)


def rules(kind, args):
    return [
        kind(
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


def allow(args):
    admin = AdminClient({"bootstrap.servers": args.brokers})
    for future in admin.create_acls(rules(AclBinding, args), request_timeout=30).values():
        future.result()


def revoke(args):
    admin = AdminClient({"bootstrap.servers": args.brokers})
    for future in admin.delete_acls(rules(AclBindingFilter, args), request_timeout=30).values():
        if not future.result():
            raise SystemExit("there was no such rule")


def password(args):
    admin = AdminClient({"bootstrap.servers": args.brokers})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion(args.user, info, args.password.encode())
    for future in admin.alter_user_scram_credentials([change], request_timeout=30).values():
        future.result()


if __name__ == "__main__":
    main()
