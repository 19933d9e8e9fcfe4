"""Why a commission is worth what it is worth, in words."""
