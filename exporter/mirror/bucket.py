"""Setting up InfluxDB: a bucket, and how long it keeps what it holds, through its buckets API."""

from __future__ import annotations

from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from exporter.mirror.destination import Destination
from exporter.mirror.influxdb import connect
from workload.errors import BrokenError

DAY_SECONDS = 86_400


def set_up(destination: Destination, retention_days: int) -> str:
    """Make the destination's bucket, or change how long it keeps samples (0 = for ever); returns what was done.

    Raises:
        BadValueError: the token cannot be read.
        BrokenError: the server cannot be reached or refuses, with its reason.
    """
    client = connect(destination)
    seconds = retention_days * DAY_SECONDS
    rule = BucketRetentionRules(type="expire", every_seconds=seconds)  # type: ignore[no-untyped-call]  # as it comes
    kept = f"samples are kept {f'for {retention_days} days' if retention_days else 'for ever'}"
    where = f"bucket {destination.bucket!r} of organisation {destination.org!r} at {destination.url}"
    try:
        api = client.buckets_api()
        found = api.find_bucket_by_name(destination.bucket)  # type: ignore[no-untyped-call]  # as it comes
        if found is None:
            api.create_bucket(bucket_name=destination.bucket, retention_rules=[rule], org=destination.org)
            return f"{where}: made; {kept}"
        if sum(known.every_seconds for known in found.retention_rules or []) == seconds:
            return f"{where}: is there already; {kept}"
        found.retention_rules = [rule]
        api.update_bucket(bucket=found)
    except (ApiException, InfluxDBError) as error:
        reason = getattr(error, "message", "") or getattr(error, "reason", "") or str(error)
        raise BrokenError(f"{where}: InfluxDB refused: {' '.join(str(reason).split())[:200]}") from error
    except (HTTPError, OSError) as error:
        raise BrokenError(f"{where}: cannot be reached: {' '.join(str(error).split())[:200]}") from error
    except ValueError as error:  # what the client says of an answer that is not as InfluxDB's API has it
        raise BrokenError(
            f"{where}: what answers there is no InfluxDB 2: {' '.join(str(error).split())[:200]}"
        ) from error
    else:
        return f"{where}: changed; {kept}"
    finally:
        client.close()  # type: ignore[no-untyped-call]  # as it comes
