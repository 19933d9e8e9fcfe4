"""Says of a commission, sentence by sentence, what made its amount."""

from growth.mechanics.referral.commission.model import BASIS_POINTS, Commission, CommissionLine, kept_and_paid_fen


def because(commission: Commission) -> list[str]:
    """Say why a commission is worth what it is worth, sentence by sentence."""
    if commission.kind == "fixed":
        told = [f"{commission.fixed_fen} fen for the first order of {commission.invitee_id} that was kept."]
        kept, paid = kept_and_paid_fen(commission.lines)
        if not commission.is_kept:
            told.append(f"{kept} of {paid} fen in scope were kept: nothing, or less than the program asks of an order.")
        elif commission.amount_fen == 0 and commission.state != "void":
            told.append("Another order, paid before, is the first that was kept.")
        elif kept < paid:
            told.append(f"{kept} of {paid} fen in scope were kept: {commission.fixed_fen} x {kept} / {paid}.")
    else:
        told = [f"{commission.basis_points / 100:g} % of what was paid and not paid back, line by line."]
        told += [_line_told(line, commission.basis_points) for line in commission.lines]
    told[0] += f" Level {commission.level}, version {commission.terms_version} of the program, in force at the payment."
    if commission.granted_fen is not None:
        told.append(f"The cap of {commission.cap_fen} fen a day left {commission.granted_fen} fen for it.")
    if commission.state == "review":
        told.append(f"It waits for a person: {', '.join(commission.review_reasons)}.")
    elif commission.state == "void":
        told.append(f"It was taken back for good: {commission.decision}.")
    elif commission.state == "pending" and commission.due_at is None:
        told.append(f"The order is not received; {commission.available_after_days} days after that it is available.")
    return [*told, f"So it is worth {commission.amount_fen} fen."]


def _line_told(line: CommissionLine, basis_points: int) -> str:
    if not line.is_in_scope:
        return f"Line {line.line_id}: {line.sku} is not covered by the program."
    if line.refunded_units == line.units:
        return f"Line {line.line_id}: all {line.units} units came back, 0 fen."
    of = f"{line.amount_fen} fen paid, {line.refunded_fen} paid back"
    return f"Line {line.line_id}: {of}: {line.kept_fen} x {basis_points} / {BASIS_POINTS} = {line.commission_fen} fen."
