"""Every statement on relations and codes. Functions never commit; services do."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from growth.mechanics.referral.model import Terms
from growth.mechanics.referral.relation.model import CLOCKS_APART, Relation
from growth.plumbing.postgres import Reader


async def relations_in_force(reader: Reader, invitee_ids: Sequence[str], at: datetime) -> Mapping[str, Relation]:
    """Return who had brought each invitee at `at`, with the terms of the program that was live then.

    Of a current and a past relation, the later one counts. An invitee's own first order stays with its relation,
    whatever the clock says.
    """
    rows = await reader.fetch(
        """
        SELECT DISTINCT ON (relation.invitee_id)
            relation.relation_id,
            relation.invitee_id,
            relation.inviter_id,
            above.inviter_id AS grand_inviter_id,
            relation.bound_at,
            relation.ends_at,
            relation.first_order_id,
            terms.promised AS terms
        FROM referral.relations AS relation
        LEFT JOIN referral.relations AS above
               ON above.invitee_id = relation.inviter_id
              AND above.bound_at <= $2::timestamptz + $3::interval
              AND (above.ends_at IS NULL OR above.ends_at > $2)
        LEFT JOIN (
            SELECT jsonb_build_object(
                'program_id', program_id,
                'version', version,
                'from_at', from_at,
                'until_at', until_at,
                'draft', draft
            ) AS promised
            FROM referral.terms
            WHERE from_at <= $2
              AND (until_at IS NULL OR until_at > $2)
              AND (closes_at IS NULL OR closes_at > $2)
            ORDER BY from_at DESC, version DESC
            LIMIT 1
        ) AS terms ON TRUE
        WHERE relation.invitee_id = ANY ($1::text[])
          AND relation.bound_at <= $2::timestamptz + $3::interval
          AND (relation.ends_at IS NULL OR relation.ends_at > $2)
        ORDER BY relation.invitee_id, relation.bound_at DESC, above.bound_at DESC
        """,
        list(invitee_ids),
        at,
        CLOCKS_APART,
    )
    return {row["invitee_id"]: msgspec.convert(dict(row), Relation) for row in rows}
