-- name: A campaign counts the bags that were opened
SELECT campaign.lucky_bag_id, campaign.taken, count(opening.user_id) AS opened
FROM lucky_bag.campaigns AS campaign
LEFT JOIN lucky_bag.openings AS opening USING (lucky_bag_id)
GROUP BY campaign.lucky_bag_id, campaign.taken
HAVING campaign.taken <> count(opening.user_id);
