-- name: No campaign gave more than the most its budget ever allowed
SELECT budget_id, spent.day, spent.grants, budget.most_grants, spent.value, budget.most_value
FROM granting.spendings AS spent
JOIN granting.budgets AS budget USING (budget_id)
WHERE spent.grants > budget.most_grants
   OR spent.value > budget.most_value;
