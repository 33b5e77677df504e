"""A fake of Stripe's v1 API over its own books, as documented at docs.stripe.com/api."""
