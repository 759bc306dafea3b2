"""A real S3 server (moto) in a separate process, with an account that writes and one that reads."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import boto3

from tests.support.ports import free_port

PREFIX = "team/images"
READ_ONLY = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


@dataclass
class S3:
    """The server, where it is, and the keys of its two accounts."""

    process: subprocess.Popen[bytes]
    place: dict[str, str]
    writer: dict[str, str]
    reader: dict[str, str]

    def bucket(self, name: str) -> str:
        """Create a bucket and return the URL of a folder in it."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/{PREFIX}"

    @cached_property
    def client(self):
        return _session(self.writer).client("s3", endpoint_url=self.place["AWS_ENDPOINT_URL"])

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return the content of every file in a bucket by its path in the folder."""
        keys = [
            item["Key"] for item in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        ]
        contents = {
            key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys
        }
        return {key.removeprefix(f"{PREFIX}/"): content for key, content in contents.items()}


def _session(keys: dict[str, str]) -> boto3.session.Session:
    return boto3.session.Session(
        keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    )


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run a server with both accounts; its first six requests, which make them, need no key."""
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "6"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        place = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
        nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        iam = _session(nobody).client("iam", endpoint_url=place["AWS_ENDPOINT_URL"])
        keys = []
        for name, rights in (("writer", ALL), ("reader", READ_ONLY)):
            iam.create_user(UserName=name)
            policy = json.dumps({"Version": "2012-10-17", "Statement": [rights]})
            iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            keys.append(
                {
                    "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                    "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
                }
            )
        yield S3(process, place, *keys)
    finally:
        process.kill()
        process.wait()
