"""Names of events in the vocabularies of Google Analytics 4 and of Segment, beside those of this API.

Each is a response of the page: a click before it was answered. Those that mean the same as a type of this API have that type here.

Sources: https://developers.google.com/analytics/devguides/collection/ga4/reference/events (recommended events),
https://support.google.com/analytics/answer/9234069 (events that are collected automatically and by enhanced measurement),
https://segment.com/docs/connections/spec/ecommerce/v2/.
"""

from collections.abc import Mapping

CHANGE = "change"

GA4: Mapping[str, str] = {
    "add_payment_info": CHANGE,
    "add_shipping_info": CHANGE,
    "add_to_cart": "add_to_cart",
    "add_to_wishlist": CHANGE,
    "begin_checkout": "checkout",
    "purchase": "purchase",
    "refund": CHANGE,
    "remove_from_cart": "remove_from_cart",
    "select_item": CHANGE,
    "select_promotion": CHANGE,
    "view_cart": CHANGE,
    "view_item": "product_view",
    "view_item_list": CHANGE,
    "view_promotion": CHANGE,
    # Beside the ecommerce events: those that follow what a shopper did.
    "file_download": CHANGE,
    "form_start": CHANGE,
    "form_submit": CHANGE,
    "generate_lead": CHANGE,
    "login": CHANGE,
    "search": "search",
    "select_content": CHANGE,
    "share": CHANGE,
    "sign_up": CHANGE,
    "video_start": CHANGE,
    "view_search_results": "search",
}

_SEGMENT: Mapping[str, str] = {
    "Cart Shared": CHANGE,
    "Cart Viewed": CHANGE,
    "Checkout Started": "checkout",
    "Checkout Step Completed": CHANGE,
    "Checkout Step Viewed": CHANGE,
    "Coupon Applied": CHANGE,
    "Coupon Denied": CHANGE,
    "Coupon Entered": CHANGE,
    "Coupon Removed": CHANGE,
    "Order Cancelled": CHANGE,
    "Order Completed": "purchase",
    "Order Refunded": CHANGE,
    "Order Updated": CHANGE,
    "Payment Info Entered": CHANGE,
    "Product Added": "add_to_cart",
    "Product Added to Wishlist": CHANGE,
    "Product Clicked": CHANGE,
    "Product List Filtered": CHANGE,
    "Product List Viewed": CHANGE,
    "Product Removed": "remove_from_cart",
    "Product Removed from Wishlist": CHANGE,
    "Product Reviewed": CHANGE,
    "Product Shared": CHANGE,
    "Product Viewed": "product_view",
    "Products Searched": "search",
    "Promotion Clicked": CHANGE,
    "Promotion Viewed": CHANGE,
    "Wishlist Product Added to Cart": "add_to_cart",
}
# As Segment's libraries send them, and as its warehouses name them.
SEGMENT: Mapping[str, str] = {**_SEGMENT, **{name.lower().replace(" ", "_"): same for name, same in _SEGMENT.items()}}

SAME_AS: Mapping[str, str] = {**GA4, **SEGMENT}
