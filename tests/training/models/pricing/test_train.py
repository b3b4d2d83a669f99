"""Demand that is learned: published figures, a simulated shop's truth, and tables that say too little or wrong."""

import json

import numpy as np
import polars as pl
import pytest

from training.datasets.shop import catalog as shop_catalog
from training.errors import TableError
from training.models.pricing import train as elasticity
from training.models.pricing.model import PricingModel
from training.tables import sales as sales_table

OJ = {"product": "brand", "quantity": "sales"}
BAYESM_OWN = [-2.78, -1.84, -3.33, -3.85, -2.91, -2.47, -3.63, -2.73, -4.09, -2.83, -1.00]


def quiet(what, share):
    pass


def trained(data, out, mapping, **options):
    bundle = elasticity.train(data, out, mapping=mapping, seed=0, progress=quiet, **options)
    return json.loads((bundle.path / "metrics.json").read_text())


def own(metrics, promotion=None):
    return {one["product"]: one["own"] for one in metrics["elasticities"] if one["promotion"] == promotion}


def test_orange_juice_has_the_published_elasticities(data_dir, tmp_path):
    metrics = trained(data_dir / "dominicks_oj" / "oj.csv", tmp_path / "out", OJ)
    assert metrics["pooled"]["noEffects"]["own"] == pytest.approx(-1.60131, abs=1e-5)
    assert metrics["pooled"]["noEffects"]["standardError"] == pytest.approx(0.018, abs=5e-4)
    assert metrics["pooled"]["productEffects"]["own"] == pytest.approx(-3.13869, abs=1e-5)
    assert own(metrics) == pytest.approx({"dominicks": -3.37753, "minute.maid": -3.32073, "tropicana": -2.71177}, abs=1e-5)
    assert all(one["shrunk"] < 0 and not one["insufficientData"] and one["cross"] == {} for one in metrics["elasticities"])


def test_orange_juice_by_advertisement_has_the_published_elasticities(data_dir, tmp_path):
    metrics = trained(data_dir / "dominicks_oj" / "oj.csv", tmp_path / "out", {**OJ, "promotion": ("feat",)})
    assert own(metrics) == pytest.approx({"dominicks": -3.37753, "minute.maid": -3.32073, "tropicana": -2.71177}, abs=1e-5)
    assert own(metrics, 0) == pytest.approx({"dominicks": -2.77415, "minute.maid": -1.99122, "tropicana": -2.03836}, abs=1e-5)
    assert own(metrics, 1) == pytest.approx({"dominicks": -3.24471, "minute.maid": -3.57100, "tropicana": -3.49506}, abs=1e-5)


@pytest.fixture(scope="module")
def bayesm(data_dir, tmp_path_factory):
    frame = pl.read_csv(data_dir / "bayesm" / "orangeJuice_yx.csv.gz")
    prices = frame.select(f"price{brand}" for brand in range(1, 12)).to_numpy()
    path = tmp_path_factory.mktemp("bayesm") / "juice.parquet"
    frame.with_columns(price=prices[np.arange(len(frame)), frame["brand"].to_numpy() - 1]).write_parquet(path)
    return path


def test_eleven_brands_have_their_own_and_cross_elasticities(bayesm, tmp_path):
    rivals = tuple(f"price{brand}" for brand in range(1, 12))
    mapping = {"product": "brand", "logQuantity": "logmove", "period": "week", "competitorPrice": rivals, "promotion": ("deal", "feat")}
    metrics = trained(bayesm, tmp_path / "out", mapping, effects=("product", "store"))
    listed = sorted(metrics["elasticities"], key=lambda one: int(one["product"]))
    assert [one["own"] for one in listed] == pytest.approx(BAYESM_OWN, abs=0.0051)
    crossed = [value for one in listed for value in one["cross"].values()]
    assert len(crossed) == 110
    assert sum(value > 0 for value in crossed) == 86
    assert all(one["shrunk"] < 0 for one in listed)


def sales_of(seed):
    random = np.random.default_rng(seed)
    catalog = shop_catalog.draw(random)
    return catalog, shop_catalog.sales(catalog, random)


@pytest.mark.slow
def test_a_shop_has_its_true_elasticities_within_the_stated_intervals():
    """80 % intervals, of the products' own estimates and after shrinkage, hold 75 to 85 % of 2,400 true elasticities."""
    alone, within, off, off_alone = [], [], [], []
    for seed in range(12):
        catalog, frame = sales_of(seed)
        sales = sales_table.read(frame)
        found, posterior = elasticity.fit(sales, ("product", "period")).states[None]
        truth = catalog.elasticity[[int(name[1:]) for name in sales.products]]
        estimates, errors = (np.array([getattr(one, name) for one in found.products]) for name in ("own", "own_error"))
        alone.append(np.abs(estimates - truth) <= 1.2816 * errors)
        within.append((posterior.interval80[:, 0] <= truth) & (truth <= posterior.interval80[:, 1]))
        off.append(posterior.mean - truth)
        off_alone.append(estimates - truth)
    assert np.size(within) >= 2000
    assert 0.75 <= np.mean(alone) <= 0.85
    assert 0.75 <= np.mean(within) <= 0.85
    assert abs(np.mean(off)) < 0.05
    assert np.std(off) < 0.7 * np.std(off_alone)


def test_a_thin_history_is_priced_by_its_category_and_says_so():
    _, frame = sales_of(5)
    thin = frame.filter((pl.col("product") != "P0003") | (pl.col("period") < pl.col("period").min() + pl.duration(weeks=4)))
    metrics = elasticity.metrics(elasticity.fit(sales_table.read(thin), ("product", "period")))
    one = next(one for one in metrics["elasticities"] if one["product"] == "P0003")
    assert (one["own"], one["standardError"], one["insufficientData"], one["cross"]) == (None, None, True, {})
    category = frame.filter(pl.col("product") == "P0003")["category"][0]
    alike = set(frame.filter(pl.col("category") == category)["product"].unique())
    others = [other["shrunk"] for other in metrics["elasticities"] if other["product"] in alike - {"P0003"}]
    assert one["shrunk"] == pytest.approx(np.mean(others), abs=0.35)
    assert metrics["insufficient"] == 1


def table(tmp_path, rows, header="product,price,quantity,period"):
    path = tmp_path / "sales.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def varied(number=20, product="A"):
    return [f"{product},{10 + week % 4},{40 - 3 * (week % 4) + week % 3},{week}" for week in range(1, number + 1)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([f"A,10,{week},{week}" for week in range(1, 20)], "all 19 rows have the price 10"),
        ([f"P{n},{10 + n},5,1" for n in range(20)], "all rows are of one period"),
        ([*varied(), "A,10,-3,21"], r"line 22, column quantity: -3.0 is less than 0"),
        ([*varied(), "A,0,3,21"], r"line 22, column price: 0.0 is not a price"),
        ([*varied(), "A,12,3,7"], r"line 22, column period: '7' is a duplicate: row 7 has the same product, period"),
        ([*varied(), "A,12,3,2025-01-06"], "column period: '1' has another form than other cells"),
        ([f"A,{10 + week % 2},{week},{week}" for week in range(1, 5)], "insufficient data: no product has 8 rows"),
        ([f"A,{10 + week},0,{week}" for week in range(1, 20)], "no row is left to learn from \\(19 without a sale\\)"),
        ([*varied(), "A,x,3,21"], "line 22, column price: 'x' is not a number"),
    ],
)
def test_a_table_that_says_too_little_or_wrong_is_refused_and_nothing_is_written(tmp_path, rows, said):
    with pytest.raises(TableError, match=said):
        trained(table(tmp_path, rows), tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_rows_without_a_sale_are_left_out_and_counted(tmp_path):
    metrics = trained(table(tmp_path, [*varied(), "A,14,0,21", "A,,3,22"]), tmp_path / "out", {})
    assert (metrics["rows"], metrics["leftOut"]) == (20, {"without a price": 1, "without a sale": 1})


def test_keys_may_come_twice_where_no_period_is_mapped(tmp_path):
    rows = [row.rsplit(",", 1)[0] for row in varied()]
    metrics = trained(table(tmp_path, rows, "product,price,quantity"), tmp_path / "out", {})
    assert metrics["effects"] == ["product"]


def test_effects_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(TableError, match="no column is the store"):
        trained(table(tmp_path, varied()), tmp_path / "out", {}, effects=("store",))
    with pytest.raises(TableError, match="unknown effect"):
        trained(table(tmp_path, varied()), tmp_path / "out", {}, effects=("weather",))


def test_controls_that_moved_both_price_and_demand_are_allowed_for():
    """Prices followed a control, by a curve, which moved demand too: plain regression is far off, double machine learning is not."""
    random = np.random.default_rng(4)
    products, rows = 6, 1500
    product = np.repeat(np.arange(products), rows)
    weather, noise = random.normal(size=product.size), random.normal(size=product.size)
    log_price = 2 + 0.1 * product + 0.25 * np.sin(2 * weather) + 0.1 * random.normal(size=product.size)
    truth = np.linspace(-3.5, -1.5, products)
    log_quantity = 3 + truth[product] * log_price + 1.5 * np.sin(2 * weather) + 0.3 * noise
    columns = {"product": [f"p{number}" for number in product], "price": np.exp(log_price), "logQuantity": log_quantity}
    frame = pl.DataFrame({**columns, "weather": weather, "hour": random.random(product.size)})
    plain = elasticity.fit(sales_table.read(frame), ("product",))
    controlled = elasticity.fit(sales_table.read(frame, {"control": ("weather", "hour")}), ("product",))
    found = {
        name: np.array([one.own for one in demand.states[None][0].products]) for name, demand in (("plain", plain), ("dml", controlled))
    }
    errors = np.array([one.own_error for one in controlled.states[None][0].products])
    assert np.abs(found["plain"] - truth).min() > 1
    assert np.abs(found["dml"] - truth).max() < 0.6
    assert (np.abs(found["dml"] - truth) < 4 * errors + 0.25).all()
    again = elasticity.fit(sales_table.read(frame, {"control": ("weather", "hour")}), ("product",))
    assert [one.own for one in again.states[None][0].products] == found["dml"].tolist()


@pytest.mark.parametrize(("currency", "unit"), [("JPY", 1.0), ("KWD", 0.001), ("EUR", 0.01), (None, 0.01)])
def test_prices_of_the_model_are_multiples_of_the_minor_unit(tmp_path, currency, unit):
    random = np.random.default_rng(0)
    price = 12.3456 * np.exp(random.normal(0, 0.2, 60))
    frame = pl.DataFrame({"product": ["A"] * 60, "price": price, "quantity": np.round(5000 * price**-2.0)})
    frame = frame if currency is None else frame.with_columns(currency=pl.lit(currency))
    frame.write_parquet(tmp_path / "sales.parquet")
    bundle = elasticity.train(tmp_path / "sales.parquet", tmp_path / "out", mapping={}, seed=0, progress=quiet)
    (learned,) = bundle.json("demand.json")["price"]
    mean = np.exp(np.log(price).mean())
    assert learned == pytest.approx(round(mean / unit) * unit, abs=1e-12)
    assert bundle.json("demand.json")["unknownSd"] > bundle.json("demand.json")["elasticitySd"][0]
    assert PricingModel.load(bundle).place("B") == 1


def test_a_bundle_without_the_sd_of_unknown_products_is_served_with_one():
    content = {
        "products": ["A"],
        "elasticity": [-2.5],
        "elasticitySd": [0.02],
        "price": [10.0],
        "quantity": [70.0],
        "cost": [6.0],
        "insufficient": [False],
        "competitors": {},
        "season": {},
    }
    model = PricingModel(content, {"currency": "EUR"}, "v")
    assert model.sd[1] > 0.5
    assert PricingModel({**content, "unknownSd": 0.4}, {"currency": "EUR"}, "v").sd[1] == 0.4
